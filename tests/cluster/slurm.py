"""Runs samples/cluster/slurm.sh in a real Slurm: munged, slurmctld and slurmd on the loopback interface, in a temporary
directory, without systemd. Of eight tasks one is killed half-way, one runs out of time and one is cancelled; all are
resumed, each in another way.

Usage: python slurm.py KVOT_BINARY DATA_DIR

Exits with 77 where there is no Slurm."""

import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from common import SAMPLES, SHARDS, Tree, no_process_left, skip, wait_for

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
SlurmdParameters=config_overrides
# More processors than there may be, so that all tasks run at the same time.
NodeName={host} NodeAddr=127.0.0.1 CPUs={shards} RealMemory=4096
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""


class Slurm:
    def __init__(self, directory):
        for tool in ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel"):
            if not self.find(tool):
                skip(f"no {tool} (Debian packages slurmctld, slurmd, slurm-client and munge)")
        self.directory = directory
        self.daemons = []
        directory.mkdir()
        for name in ("state", "spool"):
            (directory / name).mkdir()
        key = directory / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        configuration = CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            user=pwd.getpwuid(os.geteuid()).pw_name,
            ports=[one.getsockname()[1] for one in free],
            directory=directory,
            shards=SHARDS,
        )
        for one in free:
            one.close()
        (directory / "slurm.conf").write_text(configuration)
        (directory / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # v2 would want systemd
        self.environment = dict(os.environ, SLURM_CONF=str(directory / "slurm.conf"))

    @staticmethod
    def find(tool):
        return shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")

    def start(self):
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        files = [f"--{option}={self.directory}/munge.{end}" for option, end in names.items()]
        self.daemon("munged", "--foreground", "--force", *files)  # --force: a directory above may be open to all
        wait_for("munged", (self.directory / "munge.socket").exists)
        self.daemon("slurmctld", "-D")
        self.daemon("slurmd", "-D")
        wait_for("node that is ready", lambda: "idle" in self.run("sinfo", "-h", "-o", "%T", check=False))

    def daemon(self, tool, *options):
        with open(self.directory / f"{tool}.log", "w") as log:
            self.daemons.append(
                subprocess.Popen(
                    [self.find(tool), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
                )
            )

    def run(self, *command, check=True):
        result = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        assert result.returncode == 0 or not check, f"{command}: {result.stdout}"
        return result.stdout

    def stop(self):
        self.run("scancel", "--full", "--user", str(os.geteuid()), check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def show_logs(self):
        for log in sorted(self.directory.parent.rglob("*.log")):
            print(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}")

    def state(self, task):
        return re.search(r"JobState=(\w+)", self.run("scontrol", "show", "job", task, "-o")).group(1)

    def restart_now(self, task):
        """A task that was queued again would wait two minutes."""
        wait_for(f"{task} to be queued again", lambda: self.state(task) == "PENDING")
        time.sleep(2)  # slurmd refuses it in the second in which it ended
        self.run("scontrol", "update", f"JobId={task}", "StartTime=now")

    def wait_until_idle(self):
        wait_for("end of all tasks", lambda: not self.run("squeue", "-h").strip())


def is_pending(process, number):
    pending = re.search(r"ShdPnd:\t(\w+)", pathlib.Path(f"/proc/{process}/status").read_text())
    return int(pending[1], 16) >> number - 1 & 1


def run_array(slurm, tree, directory):
    def submit():
        options = [f"--array=1-{SHARDS}", "--cpus-per-task=1", "--mem=256M", "--time=10"]
        return slurm.run(
            *("sbatch", "--parsable", *options, f"--output={directory}/task-%a.log"),
            *(SAMPLES / "slurm.sh", "compress", "-o", tree.small, tree.caches),
        ).strip()

    def check_tasks(job, expected):
        slurm.wait_until_idle()
        states = {task: slurm.state(f"{job}_{task}") for task in range(1, SHARDS + 1)}
        assert states == {task: expected.get(task, "COMPLETED") for task in states}, states

    job = submit()
    killed, cancelled, out_of_time = 3, 5, SHARDS  # the last task's number as a job is that of the whole array
    first, _, second = [tree.hold_half_way(shard) for shard in (killed, cancelled, out_of_time)]
    tree.open_gate()
    os.kill(first, signal.SIGKILL)
    slurm.run("scancel", "--batch", "--signal=USR1", f"{job}_{out_of_time}")
    wait_for("SIGTERM", lambda: is_pending(second, signal.SIGTERM))
    os.kill(second, signal.SIGCONT)
    slurm.run("scancel", f"{job}_{cancelled}")
    slurm.restart_now(f"{job}_{out_of_time}")  # it queues itself again
    wait_for("failure", lambda: slurm.state(f"{job}_{killed}") == "FAILED")
    assert tree.is_half_way(killed)
    slurm.run("scontrol", "requeue", f"{job}_{killed}")
    slurm.restart_now(f"{job}_{killed}")
    check_tasks(job, {cancelled: "CANCELLED"})
    assert slurm.run("scontrol", "show", "job", job).count("Restarts=1 ") == 2
    check_tasks(submit(), {})  # all again: one has something to do
    tree.check()

    # A part of an array would give its tasks the wrong shards.
    part = slurm.run(
        *("sbatch", "--parsable", "--array=2-3", "--mem=256M", "--cpus-per-task=1", f"--output={directory}/part.log"),
        *(SAMPLES / "slurm.sh", "verify", tree.small),
    )
    slurm.wait_until_idle()
    assert slurm.state(f"{part.strip()}_2") == "FAILED"
    assert "submit the whole array" in (directory / "part.log").read_text()


def main():
    kvot, data = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name, no_process_left():
        directory = pathlib.Path(name)
        directory.chmod(0o711)  # munged wants its socket to be within everybody's reach
        slurm = Slurm(directory / "slurm")
        tree = Tree(kvot, data, directory)
        slurm.environment["KVOT"] = str(tree.gate)
        try:
            try:
                slurm.start()
            except AssertionError as error:
                slurm.show_logs()
                skip(f"Slurm does not start here: {error}")
            run_array(slurm, tree, directory)
        except Exception:
            slurm.show_logs()
            raise
        finally:
            slurm.stop()


if __name__ == "__main__":
    main()
