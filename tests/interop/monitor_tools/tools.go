// SPDX-License-Identifier: GPL-2.0-or-later

//go:build tools

// Package monitor_tools names the programs that scripts/build-nats-tools builds from this module.
package monitor_tools

import (
	_ "github.com/nats-io/nats-top"
	_ "github.com/nats-io/prometheus-nats-exporter"
)
