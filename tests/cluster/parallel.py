"""Runs samples/cluster/parallel.sh with GNU parallel on two "machines": a stand-in for ssh runs their commands here.
One shard is killed half-way; a second try resumes it. Then everything is run again, which finds nothing to do.

Usage: python parallel.py KVOT_BINARY DATA_DIR

Exits with 77 where there is no GNU parallel."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from common import SAMPLES, SHARDS, Tree, no_process_left, skip

# parallel calls it as: ssh OPTIONS... HOST -- COMMAND. A login sets SHELL, and parallel runs its jobs with that.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do host=$1; shift; done
shift
echo "$host" >>"$0.hosts"
cd /
export SHELL=/bin/sh
exec sh -c "$*"
"""


def main():
    kvot, data = sys.argv[1:]
    if not shutil.which("parallel") or b"GNU" not in subprocess.check_output(["parallel", "--version"]):
        skip("no GNU parallel")
    with tempfile.TemporaryDirectory() as name, no_process_left():
        directory = pathlib.Path(name)
        tree = Tree(kvot, data, directory)
        ssh = directory / "ssh"
        ssh.write_text(SSH)
        ssh.chmod(0o755)
        environment = dict(os.environ, KVOT=str(tree.gate), PARALLEL_SSH=str(ssh), HOME=str(directory), PARALLEL="")

        def start():
            work = ["compress", "--threads=1", "-o", tree.small, tree.caches]
            command = [SAMPLES / "parallel.sh", str(SHARDS), "one,two", *work]
            return subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL)

        run = start()
        process = tree.hold_half_way(1)
        tree.open_gate()
        os.kill(process, signal.SIGKILL)
        assert run.wait(60) == 0
        hosts = set((directory / "ssh.hosts").read_text().split())
        assert hosts == {"one", "two"}, hosts
        print((directory / "kvot-parallel.log").read_text())
        tree.check()
        assert start().wait(60) == 0
        tree.check()


if __name__ == "__main__":
    main()
