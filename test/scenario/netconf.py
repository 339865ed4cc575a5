#!/usr/bin/python3
"""Configures a gateway over NETCONF with ncclient: edit, validate, commit.

The configuration comes on standard input, the result goes to standard output
as the running configuration that the server gives back.
"""
import argparse
import sys

from ncclient import manager

p = argparse.ArgumentParser()
p.add_argument("--host", default="127.0.0.1")
p.add_argument("--port", type=int, default=830)
p.add_argument("--user", required=True)
p.add_argument("--key", required=True)
p.add_argument("--operation", default="merge")
a = p.parse_args()
config = sys.stdin.read()

with manager.connect(host=a.host, port=a.port, username=a.user, key_filename=a.key,
                     hostkey_verify=False, allow_agent=False, look_for_keys=False, timeout=30) as m:
    with m.locked("candidate"):
        m.discard_changes()
        m.edit_config(target="candidate", config=config, default_operation=a.operation)
        m.validate(source="candidate")
        m.commit()
    print(m.get_config(source="running").data_xml)
