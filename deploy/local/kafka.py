"""Apache Kafka as child processes: one broker or three, KRaft in combined mode (KIP-500)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.local.answering import await_answer
from deploy.local.errors import BrokerFailed
from deploy.local.ports import free_ports
from deploy.local.properties import CLUSTER_ID, as_properties, broker_properties
from deploy.local.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.local.java import KafkaPrograms

STOP_SECONDS = 30.0
FORMAT_SECONDS = 60.0
LOG_TAIL = 3000
"""Characters of the broker's log that an error shows."""


class KafkaNode:
    """One broker process. Every method blocks: call them through ``asyncio.to_thread``.

    Port and data stay the same over stops and kills.

    Args:
        number: the node id.
        port: where clients connect, on 127.0.0.1.
        folder: for its settings, log and data.
        programs: what to run.
    """

    def __init__(self, number: int, port: int, folder: Path, programs: KafkaPrograms) -> None:
        self.id = number
        self.port = port
        self.log = folder / "kafka.log"
        self._settings = folder / "server.properties"
        self._data = folder / "data"
        self._record = folder / "classes.jsa"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self.recording = False
        """Whether the broker will, when it stops, make the archive that later ones start from."""

    @property
    def running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The broker's process id; None while it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    def format(self, properties: Mapping[str, str]) -> None:
        """Write the settings, and make the data folder a Kafka one unless it is.

        Raises:
            BrokerFailed: Kafka refuses the settings.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        own = {**properties, "log.dirs": str(self._data)}
        self._settings.write_text(as_properties(own), encoding="utf-8")
        if (self._data / "meta.properties").exists():
            return
        arguments = ("format", "-t", CLUSTER_ID, "-c", str(self._settings), "--ignore-formatted")
        done = subprocess.run(
            self._programs.command("kafka.tools.StorageTool", *arguments),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FORMAT_SECONDS,
        )
        if done.returncode:
            raise BrokerFailed(f"Kafka's storage was not formatted: {done.stdout[-LOG_TAIL:]}")

    def start(self) -> None:
        """Start the broker and wait until it answers.

        Raises:
            BrokerFailed: it ended or did not answer within 60 s.
        """
        self.launch()
        self.await_answer({self.id})

    def launch(self) -> None:
        """Start the broker; does not wait."""
        if self.running:
            return
        self.recording = self.id == 1 and not self._programs.archive.exists()
        record = self._record if self.recording else None
        command = self._programs.command("kafka.Kafka", str(self._settings), record=record)
        self._process = spawn(command, self.log)

    def await_answer(self, ids: set[int]) -> None:
        """Wait until this broker answers and names the brokers ``ids`` as alive.

        Raises:
            BrokerFailed: it ended or did not answer within 60 s.
        """
        try:
            await_answer(f"127.0.0.1:{self.port}", ids, self._check)
        except TimeoutError as error:
            raise BrokerFailed(f"{error}; the end of its log:\n{self._tail()}") from error

    def stop(self) -> None:
        """End the broker in good order (SIGTERM), or by force after 30 s."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)  # a paused one would not hear it
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.recording and self._record.exists():
            self._record.replace(self._programs.archive)

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Freeze the broker (SIGSTOP): connections stay, nothing is answered from now on."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:  # a process with many threads does not stop at once
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let a paused broker go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _check(self) -> None:
        if self._process is not None and not self.running:
            code = self._process.returncode
            raise BrokerFailed(f"broker {self.id} ended with {code}; its log ends:\n{self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]


class KafkaCluster:
    """A started cluster of real brokers on 127.0.0.1.

    Args:
        programs: what to run.
        brokers: how many.
        config: broker settings that override ours.
        data_dir: kept, and used again by the next cluster there; by default the data is in a
            temporary folder and deleted at `close`.

    Raises:
        BrokerFailed: a broker ended or did not answer within 60 s.
    """

    kind = "maven"
    real = True

    def __init__(
        self,
        programs: KafkaPrograms,
        brokers: int = 1,
        config: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self._temporary = data_dir is None
        folder = data_dir or Path(tempfile.mkdtemp(prefix="kafka-"))
        self._folder = folder.resolve()
        ports = free_ports(2 * brokers)
        self._controllers = ports[brokers:]
        self.nodes = [
            KafkaNode(number, port, self._folder / f"node-{number}", programs)
            for number, port in enumerate(ports[:brokers], start=1)
        ]
        self.bootstrap_servers = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        where = "in a temporary folder" if self._temporary else f"in {folder}"
        self.description = (
            f"Apache Kafka {programs.version} from Maven jars, {self.bootstrap_servers},"
            f" data {where}"
        )
        try:
            self._start(config or {})
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all brokers; temporary data is deleted."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(self._end, self.nodes))
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self, config: Mapping[str, str]) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.format(self._properties(node, config)), self.nodes))
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.await_answer({each.id for each in self.nodes})

    def _properties(self, node: KafkaNode, config: Mapping[str, str]) -> dict[str, str]:
        return {**broker_properties(node.id, node.port, self._controllers), **config}

    def _end(self, node: KafkaNode) -> None:
        if self._temporary and not node.recording:
            node.kill()  # nobody will read the data: no need to close it in good order
        else:
            node.stop()
