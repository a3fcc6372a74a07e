#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls EventService over gRPC: publishes events and prints each answer.

Prints one line a call: "OK success=true", "OK success=false", "OK" (methods without a result) or "STATUS details".
Exit status: 0 when every call was answered OK (and with success=true), 1 otherwise, 2 for wrong usage.
"""
import argparse
import json
import sys
import uuid

import grpc
from google.protobuf import struct_pb2

SERVICE = "chef.automate.domain.event.api.EventService"


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content if content else b""


def make_event(options, number):
    event_id = options.id if options.id is not None else str(uuid.uuid4())
    if options.id and options.count > 1:
        event_id += "-%d" % number
    data = b""
    if options.data:
        struct = struct_pb2.Struct()
        struct.update(json.loads(options.data))
        data = struct.SerializeToString()
    return (field(1, event_id.encode()) + field(2, field(1, options.type.encode()))
            + field(7, options.verb.encode()) + field(10, data))


def make_request(options, number):
    if options.method != "Publish" or options.no_msg:
        return b""
    if options.raw:
        with open(options.raw, "rb") as file:
            event = file.read()
    else:
        event = make_event(options, number)
    return varint(1 << 3 | 2) + varint(len(event)) + event


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def open_channel(options):
    if options.plain:
        return grpc.insecure_channel(options.address)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read_file(options.ca),
        private_key=read_file(options.key) if options.key else None,
        certificate_chain=read_file(options.cert) if options.cert else None)
    extra = (("grpc.ssl_target_name_override", options.tls_name),) if options.tls_name else ()
    return grpc.secure_channel(options.address, credentials, options=extra)


def call(channel, options, number):
    invoke = channel.unary_unary("/%s/%s" % (SERVICE, options.method))
    try:
        answer = invoke(make_request(options, number), timeout=options.timeout)
    except grpc.RpcError as error:
        print(error.code().name, " ".join((error.details() or "").split()), flush=True)
        return False
    if options.method != "Publish":
        print("OK", flush=True)
        return True
    # PublishResponse: one bool with number 1, left out where it is false.
    success = answer[:1] == b"\x08" and answer[1:2] != b"\x00"
    print("OK success=%s" % ("true" if success else "false"), flush=True)
    return success


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--address", required=True, metavar="HOST:PORT")
    parser.add_argument("--ca", help="who signed the server's certificate (PEM)")
    parser.add_argument("--cert", help="our certificate; none: show none")
    parser.add_argument("--key", help="its key")
    parser.add_argument("--tls-name", help="the name to expect in the server's certificate")
    parser.add_argument("--plain", action="store_true", help="no TLS")
    parser.add_argument("--method", default="Publish",
                        choices=("Publish", "Subscribe", "Start", "Stop"))
    parser.add_argument("--type", default="scanJobCreated")
    parser.add_argument("--id", help="default: a random UUID; empty: none; with --count a number follows")
    parser.add_argument("--verb", default="")
    parser.add_argument("--data", help="a JSON object")
    parser.add_argument("--raw", metavar="FILE", help="the encoded EventMsg")
    parser.add_argument("--no-msg", action="store_true", help="a request without Msg")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS")
    options = parser.parse_args()
    if not options.plain and not options.ca:
        parser.error("give --ca, or --plain")
    with open_channel(options) as channel:
        results = [call(channel, options, number) for number in range(1, options.count + 1)]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
