// SPDX-License-Identifier: GPL-2.0-or-later

// Goal: what users do through the Go client of NATS works against the server, over every way to
// connect. Method and arguments are those of nats_c.c: each scenario gets two fresh connections of
// one way, and a flush (PING, PONG) proves that nothing more is on its way.
package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	deadline = 10 * time.Second
	mib      = 1 << 20
)

type files struct{ ca, cert, key string }

// fault is what a check panics with; runScenario turns it into a line.
type fault string

func require(good bool, format string, words ...any) {
	if !good {
		panic(fault(fmt.Sprintf(format, words...)))
	}
}

func succeed(err error, what string) {
	if err != nil {
		panic(fault(what + ": " + err.Error()))
	}
}

// wait ends when the channel gives something, or fails at the deadline.
func wait[T any](from <-chan T, what string) T {
	select {
	case value := <-from:
		return value
	case <-time.After(deadline):
		panic(fault(what + ": expected within " + deadline.String()))
	}
}

// inbox keeps the messages of one subscription in their order.
type inbox struct {
	sub      *nats.Subscription
	lock     sync.Mutex
	messages []*nats.Msg
	arrived  chan struct{}
}

func (in *inbox) take(message *nats.Msg) {
	in.lock.Lock()
	in.messages = append(in.messages, message)
	in.lock.Unlock()
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

func (in *inbox) all() []*nats.Msg {
	in.lock.Lock()
	defer in.lock.Unlock()
	return append([]*nats.Msg(nil), in.messages...)
}

// count waits until so many messages have come and demands that they are no more.
func (in *inbox) count(wanted int) []*nats.Msg {
	end := time.After(deadline)
	for len(in.all()) < wanted {
		select {
		case <-in.arrived:
		case <-end:
			panic(fault(fmt.Sprintf("%d messages expected, %d came", wanted, len(in.all()))))
		}
	}
	got := in.all()
	require(len(got) == wanted, "%d messages expected, %d came", wanted, len(got))
	return got
}

// scene is two connections of one way, and what a scenario opens beside them.
type scene struct {
	files               files
	way, url            string
	publisher, listener *nats.Conn
	opened              []*nats.Conn
	errors              chan error
	reconnected         chan struct{}
}

func (s *scene) connect(more ...nats.Option) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Timeout(deadline),
		nats.ReconnectWait(50 * time.Millisecond),
		nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.errors <- err }),
		nats.ReconnectHandler(func(*nats.Conn) { s.reconnected <- struct{}{} }),
	}
	if strings.HasPrefix(s.url, "tls:") {
		options = append(options, nats.RootCAs(s.files.ca), nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if s.way == "mutual" {
		options = append(options, nats.ClientCert(s.files.cert, s.files.key))
	}
	connection, err := nats.Connect(s.url, append(options, more...)...)
	if err == nil {
		s.opened = append(s.opened, connection)
	}
	return connection, err
}

func (s *scene) open(more ...nats.Option) *nats.Conn {
	connection, err := s.connect(more...)
	succeed(err, "connect")
	return connection
}

func (s *scene) close() {
	for _, connection := range s.opened {
		connection.Close()
	}
}

func subscribeOn(connection *nats.Conn, subject, queue string) *inbox {
	in := &inbox{arrived: make(chan struct{}, 1)}
	var err error
	if queue == "" {
		in.sub, err = connection.Subscribe(subject, in.take)
	} else {
		in.sub, err = connection.QueueSubscribe(subject, queue, in.take)
	}
	succeed(err, "subscribe")
	succeed(in.sub.SetPendingLimits(-1, -1), "pending limits")
	succeed(connection.FlushTimeout(deadline), "flush")
	return in
}

func (s *scene) subscribe(subject string) *inbox { return subscribeOn(s.listener, subject, "") }

func (s *scene) publish(subject string, data []byte) {
	succeed(s.publisher.Publish(subject, data), "publish")
}

// settle: everything that the publisher has sent has come to the listener.
func (s *scene) settle() {
	succeed(s.publisher.FlushTimeout(deadline), "flush of the publisher")
	succeed(s.listener.FlushTimeout(deadline), "flush of the listener")
}

func pattern(length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(i * 31 % 251)
	}
	return data
}

type scenario struct {
	name string
	run  func(s *scene)
}

var scenarios = []scenario{
	{"the server is described in INFO", func(s *scene) {
		require(regexp.MustCompile(`^N[A-Z2-7]{55}$`).MatchString(s.listener.ConnectedServerId()),
			"server_id %q", s.listener.ConnectedServerId())
		require(s.listener.MaxPayload() == mib, "max_payload %d", s.listener.MaxPayload())
		require(s.listener.HeadersSupported(), "headers are not offered")
		ip, err := s.listener.GetClientIP()
		succeed(err, "client_ip")
		require(ip.String() == "127.0.0.1", "client_ip %s", ip)
		one, err := s.listener.GetClientID()
		succeed(err, "client_id")
		two, err := s.publisher.GetClientID()
		succeed(err, "client_id")
		require(one != two, "client_id %d twice", one)
	}},
	{"bytes arrive unchanged", func(s *scene) {
		in := s.subscribe("bytes")
		data := []byte("a\r\nPING\r\n\x00b\xff\xfe")
		s.publish("bytes", data)
		s.publish("bytes", nil)
		got := in.count(2)
		require(bytes.Equal(got[0].Data, data), "got %q", got[0].Data)
		require(len(got[1].Data) == 0, "got %q", got[1].Data)
		s.settle()
		in.count(2)
	}},
	{"order is kept over 10000 messages", func(s *scene) {
		in := s.subscribe("order")
		for i := 0; i < 10000; i++ {
			s.publish("order", []byte(strconv.Itoa(i)))
		}
		for i, message := range in.count(10000) {
			require(string(message.Data) == strconv.Itoa(i), "message %d is %q", i, message.Data)
		}
		s.settle()
		in.count(10000)
	}},
	{"wildcards match", func(s *scene) {
		star, full := s.subscribe("w.*.z"), s.subscribe("w.>")
		for _, subject := range []string{"w.a.z", "w.a.b.z", "w"} {
			s.publish(subject, nil)
		}
		s.settle()
		require(star.count(1)[0].Subject == "w.a.z", "got %q", star.count(1)[0].Subject)
		both := full.count(2)
		require(both[0].Subject == "w.a.z" && both[1].Subject == "w.a.b.z", "got %q, %q",
			both[0].Subject, both[1].Subject)
	}},
	{"a queue group shares, others get all", func(s *scene) {
		one := subscribeOn(s.listener, "job", "workers")
		two := subscribeOn(s.listener, "job", "workers")
		all := s.subscribe("job")
		for i := 0; i < 200; i++ {
			s.publish("job", nil)
		}
		s.settle()
		all.count(200)
		end := time.Now().Add(deadline)
		for len(one.all())+len(two.all()) < 200 && time.Now().Before(end) {
			succeed(s.listener.FlushTimeout(deadline), "flush")
		}
		a, b := len(one.all()), len(two.all())
		// Fifty of two hundred is seven standard deviations away from the half.
		require(a+b == 200 && min(a, b) >= 50, "shares %d and %d", a, b)
	}},
	{"headers arrive", func(s *scene) {
		in := s.subscribe("head")
		message := nats.NewMsg("head")
		message.Header.Add("Color", "red")
		message.Header.Add("Color", "dark blue")
		message.Header.Set("Size", "0")
		message.Data = []byte("body")
		succeed(s.publisher.PublishMsg(message), "publish")
		got := in.count(1)[0]
		require(strings.Join(got.Header.Values("Color"), ",") == "red,dark blue", "got %v", got.Header)
		require(got.Header.Get("Size") == "0" && string(got.Data) == "body", "got %v %q", got.Header, got.Data)
	}},
	{"a request is answered", func(s *scene) {
		_, err := s.listener.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) })
		succeed(err, "subscribe")
		succeed(s.listener.FlushTimeout(deadline), "flush")
		// The old style: a subscription for each request.
		for _, connection := range []*nats.Conn{s.publisher, s.open(nats.UseOldRequestStyle())} {
			for i := 0; i < 10; i++ {
				data := "request " + strconv.Itoa(i)
				answer, err := connection.Request("echo", []byte(data), deadline)
				succeed(err, "request")
				require(string(answer.Data) == data, "got %q", answer.Data)
			}
		}
	}},
	{"a request to nobody fails at once", func(s *scene) {
		_, err := s.publisher.Request("nobody.here", nil, deadline)
		require(errors.Is(err, nats.ErrNoResponders), "got %v", err)
	}},
	{"unsubscribe and auto-unsubscribe end", func(s *scene) {
		limited, ended, kept := s.subscribe("u"), s.subscribe("u"), s.subscribe("u")
		succeed(limited.sub.AutoUnsubscribe(3), "auto-unsubscribe")
		succeed(ended.sub.Unsubscribe(), "unsubscribe")
		s.settle()
		for i := 0; i < 5; i++ {
			s.publish("u", nil)
		}
		s.settle()
		kept.count(5)
		limited.count(3)
		ended.count(0)
	}},
	{"1 MiB arrives, a byte more is refused", func(s *scene) {
		in := s.subscribe("large")
		data := pattern(mib + 1)
		for i := 0; i < 5; i++ {
			s.publish("large", data[:mib])
		}
		for _, message := range in.count(5) {
			require(bytes.Equal(message.Data, data[:mib]), "other bytes")
		}
		err := s.publisher.Publish("large", data)
		require(errors.Is(err, nats.ErrMaxPayload), "got %v", err)
		s.settle()
		in.count(5)
	}},
	{"no echo is kept", func(s *scene) {
		other := s.subscribe("quiet")
		silent := s.open(nats.NoEcho())
		own := subscribeOn(silent, "quiet", "")
		succeed(silent.Publish("quiet", nil), "publish")
		succeed(silent.FlushTimeout(deadline), "flush")
		other.count(1)
		own.count(0)
	}},
	{"verbose and pedantic modes work", func(s *scene) {
		strict := s.open(func(o *nats.Options) error {
			o.Verbose, o.Pedantic = true, true
			return nil
		})
		in := subscribeOn(strict, "strict.*", "")
		succeed(strict.Publish("strict.a", []byte("x")), "publish")
		succeed(strict.FlushTimeout(deadline), "flush")
		in.count(1)
	}},
	{"the round trip is measured", func(s *scene) {
		took, err := s.publisher.RTT()
		succeed(err, "RTT")
		require(took > 0 && took < deadline, "RTT %s", took)
	}},
	{"a subscription's drain loses nothing", func(s *scene) {
		in := s.subscribe("drain")
		for i := 0; i < 500; i++ {
			s.publish("drain", nil)
		}
		succeed(s.publisher.FlushTimeout(deadline), "flush")
		closed := in.sub.StatusChanged(nats.SubscriptionClosed)
		succeed(in.sub.Drain(), "drain")
		wait(closed, "the drained subscription ends")
		s.publish("drain", nil)
		s.settle()
		in.count(500)
	}},
	{"a connection drains and closes", func(s *scene) {
		in := s.subscribe("drain")
		for i := 0; i < 500; i++ {
			s.publish("drain", nil)
		}
		succeed(s.publisher.FlushTimeout(deadline), "flush")
		closed := make(chan struct{}, 1)
		s.listener.SetClosedHandler(func(*nats.Conn) { closed <- struct{}{} })
		succeed(s.listener.Drain(), "drain")
		wait(closed, "the drained connection ends")
		in.count(500)
	}},
}

// A user who may not publish to "secret" is told so and goes on.
func violationIsTold(s *scene) {
	in := s.subscribe("open")
	s.publish("secret", nil)
	err := wait(s.errors, "an error")
	require(errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"secret"`), "got %v", err)
	s.publish("open", nil)
	in.count(1)
}

// A restarted server gets the same subscriptions again.
func restartIsSurvived(s *scene) {
	in := s.subscribe("again")
	fmt.Println("restart")
	wait(s.reconnected, "a connection reconnects")
	wait(s.reconnected, "the other connection reconnects")
	s.settle()
	s.publish("again", nil)
	in.count(1)
}

func newScene(f files, way, url string) *scene {
	return &scene{files: f, way: way, url: url, errors: make(chan error, 1000), reconnected: make(chan struct{}, 10)}
}

func runScenario(f files, way, url string, what scenario) (good bool) {
	s := newScene(f, way, url)
	defer s.close()
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Printf("not ok %s: %s: %v\n", way, what.name, reason)
			good = false
		}
	}()
	s.publisher, s.listener = s.open(), s.open()
	what.run(s)
	fmt.Printf("ok %s: %s\n", way, what.name)
	return true
}

// runRefusal: the connection must fail, and with this error if one is given.
func runRefusal(f files, way, url string, wanted error) bool {
	s := newScene(f, way, url)
	defer s.close()
	_, err := s.connect()
	if err == nil || (wanted != nil && !errors.Is(err, wanted)) {
		fmt.Printf("not ok %s: the connection is refused: got %v\n", way, err)
		return false
	}
	fmt.Printf("ok %s: the connection is refused (%v)\n", way, err)
	return true
}

func runWay(f files, way, url string) []bool {
	switch way {
	case "restricted":
		return []bool{runScenario(f, way, url, scenario{"a violation is told", violationIsTold})}
	case "restart":
		return []bool{runScenario(f, way, url, scenario{"a restart is survived", restartIsSurvived})}
	case "refused":
		return []bool{runRefusal(f, way, url, nats.ErrAuthorization)}
	case "untrusted":
		return []bool{runRefusal(f, way, url, nil)}
	}
	var results []bool
	for _, what := range scenarios {
		results = append(results, runScenario(f, way, url, what))
	}
	return results
}

func main() {
	var f files
	passed, failed := 0, 0
	named := map[string]*string{"--ca": &f.ca, "--cert": &f.cert, "--key": &f.key}
	for args := os.Args[1:]; len(args) > 0; args = args[1:] {
		if to := named[args[0]]; to != nil && len(args) > 1 {
			*to = args[1]
			args = args[1:]
			continue
		}
		way, url, found := strings.Cut(args[0], "=")
		if !found {
			fmt.Fprintln(os.Stderr, "usage: nats_go [--ca FILE] [--cert FILE --key FILE] WAY=URL...")
			os.Exit(2)
		}
		for _, good := range runWay(f, way, url) {
			if good {
				passed++
			} else {
				failed++
			}
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
