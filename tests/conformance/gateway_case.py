# SPDX-License-Identifier: GPL-2.0-or-later
"""What every gateway check is given: the server under test (gateway B, server name srv-b), test
peers and clients.

Invariants: a server belongs to one check; what a check opened is closed at its end, in reverse
order, and the server must then end with status 0 if it is ours. Checks marked `ours_only` exist
only in a run against ours, and ask the server who it is.
"""
import argparse
import contextlib
import os
import tempfile

import gateway_peer
import support

SUITE = support.Suite("gateway")
SUITE.left_out = {
    "G45": "needs a route peer: ours has no routes yet",
    "G52": "needs a second account added by a reload: ours has the one account $G",
    "G86": "needs two accounts: ours has the one account $G",
}
NO_SYSTEM_ACCOUNT = {"nats-server": {"no_system_account": True}}


def is_own_interest(frame):
    """Interest of what event-service embeds (event queue, `$SYS` requests): no row is on it."""
    return (
        frame.verb in ("RS+", "RS-")
        and len(frame.args) > 1
        and (frame.args[0] == "$SYS" or frame.args[1].startswith(("event.", "$SYS.")))
    )


class Case:
    """One check's world. Everything made through it is closed when the check ends."""

    def __init__(self, context):
        self.context = context
        self.certs = context.certs
        self.ours = context.adapter.name == "ours"
        self.server = None
        self.exit_checked = False

    def keep(self, thing):
        self.context.closing.callback(thing.close)
        return thing

    def peer(self, name="F", **options):
        peer = self.keep(gateway_peer.Peer(name, **options))
        peer.ignore = is_own_interest
        return peer

    def client(self, label="c", server=None, **options):
        return self.keep(gateway_peer.Client((server or self.server).port, label, **options))

    def start(self, *remotes, gateway=None, **settings):
        """The server under test. Each remote is a peer, or (name, urls)."""
        section = {"name": "B"}
        pairs = [(r.name, [r.url]) if isinstance(r, gateway_peer.Peer) else r for r in remotes]
        if pairs:
            section["remotes"] = [{"name": name, "urls": urls} for name, urls in pairs]
        section.update(gateway or {})
        whole = support.merge({"service": {"name": "srv-b"}, "gateway": section}, NO_SYSTEM_ACCOUNT)
        self.server = self.context.lab.start(support.merge(whole, settings))
        self.context.closing.callback(self.stop_server)
        return self.server

    def since(self, major, minor):
        """Whether the server is of this version or newer, by its INFO."""
        return support.since(self.client("version").info, major, minor)

    def require_ours(self):
        """The server really is ours: its INFO carries our version in a field of its own."""
        info = self.client("identity").info
        if not self.ours or "event_service" not in info:
            raise support.Mismatch(
                "this check runs against ours only", "event_service in INFO", info
            )

    def stop_server(self):
        """Ends the server. Ours must end with status 0, which a crash or a sanitizer prevents."""
        if self.exit_checked:
            return
        self.exit_checked = True
        status = self.server.stop()
        if self.ours and status != 0:
            raise support.Mismatch(
                "the server ended with status %s\n%s" % (status, self.server.fault_text()), "0"
            )

    def start_real(self, name, remotes=(), **settings):
        """A real nats-server as a neighbour: gateway `name`, remotes as (name, url)."""
        program = os.environ.get("ES_NATS_SERVER", "nats-server")
        section = {"name": name, "remotes": [{"name": n, "urls": [u]} for n, u in remotes]}
        whole = support.merge(
            {"service": {"name": "srv-" + name.lower()}, "gateway": section}, NO_SYSTEM_ACCOUNT
        )
        folder = tempfile.mkdtemp(dir=self.context.lab.folder)
        server = support.Server(support.NatsServer(program), support.merge(whole, settings), folder)
        self.context.closing.callback(server.stop)
        return server

    def tls(self, name, **options):
        """The tls map of a gateway section: certificate of `name`, mutual verification."""
        cert, key = self.certs.paths(name, **options)
        return {"cert_path": cert, "key_path": key, "root_ca_path": self.certs.ca()}

    def only_o(self, name="F", **settings):
        """Server started, link o open and no link i, since F names no URL: (peer, o)."""
        peer = self.peer(name)
        if self.server is None:
            self.start(**settings)
        return peer, peer.open_o(self.server, gateway_urls=None)

    def both(self, name="F", settings=None, **options):
        """Server started, o dialled, i dialled back: (peer, o, i). The options are the peer's."""
        peer = self.peer(name, **options)
        if self.server is None:
            self.start(**(settings or {}))
        o = peer.open_o(self.server)
        return peer, o, peer.open_i()


def runs_against_ours():
    """Whether the runner was told so: the runner knows no checks that other servers never get."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--server", default="nats-server")
    return parser.parse_known_args()[0].server == "ours"


def gateway_check(number, rule, seconds_long=1, ours_only=False):
    """Decorator: check `number`, whose body is given a Case.

    An `ours_only` one exists only in a run against ours.
    """

    def register(body):
        def run(context):
            case = Case(context)
            with contextlib.ExitStack() as closing:
                # Closed here and not by the runner, so that the exit status counts for this check.
                closing.callback(context.closing.close)
                body(case)

        if not ours_only or runs_against_ours():
            SUITE.check(number, rule, settings=False, seconds_long=seconds_long)(run)
        return body

    return register
