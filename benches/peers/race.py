#!/usr/bin/env python3
"""One job, several tools: whether they end correctly, and what they send to the API. Makes the tables of docs/comparison.md.

    python3 -m venv venv && venv/bin/pip install -r benches/peers/requirements.txt     # and GNU parallel and curl
    cargo build --release
    venv/bin/python benches/peers/race.py target/release/customer-import [--runs 5] [--peer NAME]... [--event NAME]...

The job: 1,000 rows into `customer-import simulate`, which loses 2 % of the answers (the customer is created), answers 5 % of the
requests with 500, and accepts 100 requests a second without announcing that limit. After half of the rows one thing happens:

    kill      the tool is killed with SIGKILL
    outage    for 20 s every connection is cut before an answer
    revoke    the key is refused (401) until the first run has ended

Then the tool is run again until it ends with 0, three times at most, never during the outage. Every request passes a proxy that counts;
the customers at the end are queried from the simulator itself. Everything is on loopback. A line of JSON per run goes to standard error,
the tables, with minimum and maximum of all runs, to standard output. Only counts are compared, so the machine need not be quiet.
"""

import argparse
import asyncio
import base64
import collections
import csv
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 1000
OUTAGE_SECONDS = 20
MOST_RERUNS = 3
FAULTS = ["--fault", "reset-after=0.02", "--fault", "http500=0.05", "--rate-limit", "100"]
PEERS = ["customer-import", "parallel", "dlt", "asyncio"]
EVENTS = ["kill", "outage", "revoke"]
AUTH = "Basic " + base64.b64encode(b"k:").decode()
WRONG_AUTH = "Basic " + base64.b64encode(b"wrong:").decode()
# Outcomes of `customer-import` that mean: imported.
SETTLED = ("created", "existing", "unchanged", "updated")

Exchange = collections.namedtuple("Exchange", "method reference status")


class Tap:
    """An HTTP proxy in front of the simulator that records each exchange and is the source of outages and revoked keys."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.exchanges = []
        self.in_the_dark = 0
        self.dark_until = 0.0
        self.revoked = False

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    def created(self):
        return len({e.reference for e in self.exchanges if e.method == "POST" and e.status == 200})

    async def serve(self, reader, writer):
        upstream = None
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(content_length(head))
                if time.monotonic() < self.dark_until:
                    self.in_the_dark += 1
                    break
                if self.revoked:
                    head = head.replace(AUTH.encode(), WRONG_AUTH.encode())
                upstream = upstream or await asyncio.open_connection("127.0.0.1", self.upstream)
                upstream[1].write(head + body)
                method, path = head.split(b" ", 2)[:2]
                status, answer = await response(upstream[0])
                self.exchanges.append(Exchange(method.decode(), reference(path, body), status))
                if status is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            # A client that still waits sees a reset, as the simulator sends it.
            writer.transport.abort()
            if upstream:
                upstream[1].transport.abort()


def content_length(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def response(reader):
    """Status and bytes of an answer; None where the connection ends first."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head + await reader.readexactly(content_length(head))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None, b""


def reference(path, body):
    form = urllib.parse.parse_qs(body.decode())
    return form["object_reference_id"][0] if "object_reference_id" in form else path.rsplit(b"/", 1)[-1].decode()


def command(peer, binary, source, base, work):
    if peer == "customer-import":
        options = ["--rate", "unlimited", "--concurrency", "16", "--timeout", "10s", "--progress", "never"]
        target = ["--base-url", base, "--merchant-id", "acme", "--ledger", f"{work}/ledger.db"]
        return [binary, "import", source, *target, *options]
    if peer == "parallel":
        return ["bash", f"{HERE}/loop.sh", source, base, work]
    return [sys.executable, f"{HERE}/{peer}_import.py", source, base, work]


def verdicts(peer, binary, work):
    """What the tool says in the end: reference -> (imported?, id), for the rows that it says anything about."""
    said = {}
    if peer == "customer-import":
        export = os.popen(f"{binary} export all --ledger {work}/ledger.db")
        for row in csv.DictReader(export):
            if row["outcome"] != "pending":
                said[row["object_reference_id"]] = (row["outcome"] in SETTLED, row["customer_id"])
        return said
    path = pathlib.Path(work, "verdicts.jsonl")
    for line in path.read_text().splitlines() if path.exists() else []:
        # A line that the kill has cut says nothing.
        try:
            verdict = json.loads(line)
        except ValueError:
            continue
        said[verdict["ref"]] = (verdict["ok"], verdict.get("id"))
    return said


def at_the_api(port, references):
    """reference -> id for every customer that there is, asked until the simulator's faults let it answer."""
    have = {}
    for ref in references:
        url = f"http://127.0.0.1:{port}/customers/{ref}"
        headers = {"Authorization": AUTH, "x-merchantid": "acme", "x-routing-id": ref}
        while ref not in have:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                    have[ref] = json.load(answer)["id"]
            except urllib.error.HTTPError as error:
                if error.code == 404 or b"not found" in error.read().lower():
                    break
                time.sleep(0.02)
            except OSError:
                time.sleep(0.02)
    return have


def write_source(path, rows):
    references = [f"merchant-user-{i:06d}" for i in range(rows)]
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["object_reference_id", "mobile_number", "email_address", "first_name", "last_name", "mobile_country_code"])
        for i, ref in enumerate(references):
            table.writerow([ref, f"99{i:08d}", f"user{i}@example.com", "Asha", "Rao", "91"])
    return references


async def simulator(binary, seed):
    """A simulator on a free port, and the port, which it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JUSPAY")}
    process = await asyncio.create_subprocess_exec(
        binary, "simulate", "--listen", "127.0.0.1:0", *FAULTS, "--seed", str(seed),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment)
    while line := await process.stdout.readline():
        if b"127.0.0.1:" in line:
            return process, int(line.split(b"127.0.0.1:")[1].split()[0].strip(b"/,;."))
    raise SystemExit("the simulator does not start")


async def first_run(event, tap, process, until):
    """Waits for the end of a run, with the event at half of the rows."""
    happened = False
    while process.returncode is None and time.monotonic() < until:
        if not happened and tap.created() >= ROWS // 2:
            happened = True
            if event == "kill":
                os.killpg(process.pid, signal.SIGKILL)
            elif event == "outage":
                tap.dark_until = time.monotonic() + OUTAGE_SECONDS
            else:
                tap.revoked = True
        await asyncio.sleep(0.02)
    await stop(process)


async def stop(process):
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def once(binary, peer, event, seed):
    """One run of the job: what is to be compared, as a dictionary."""
    work = tempfile.mkdtemp(prefix="race-")
    source = f"{work}/users.csv"
    references = write_source(source, ROWS)
    server, port = await simulator(binary, seed)
    tap = Tap(port)
    base = f"http://127.0.0.1:{await tap.start()}"
    environment = {**os.environ, "JUSPAY_API_KEY": "k"}

    async def start():
        with open(f"{work}/output.txt", "a") as output:
            return await asyncio.create_subprocess_exec(
                *command(peer, binary, source, base, work), cwd=work, env=environment, stdin=asyncio.subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True)

    began = time.monotonic()
    process = await start()
    await first_run(event, tap, process, began + 300)
    codes = [process.returncode]
    refused = sum(e.status == 401 for e in tap.exchanges)
    tap.revoked = False
    await asyncio.sleep(max(0.0, tap.dark_until - time.monotonic()))
    while codes[-1] != 0 and len(codes) <= MOST_RERUNS:
        process = await start()
        try:
            await asyncio.wait_for(process.wait(), 300)
        except asyncio.TimeoutError:
            pass
        await stop(process)
        codes.append(process.returncode)
    seconds = time.monotonic() - began
    have = await asyncio.to_thread(at_the_api, port, references)
    said = verdicts(peer, binary, work)
    server.kill()
    await server.wait()
    posts = [e for e in tap.exchanges if e.method == "POST"]
    return {
        "peer": peer, "event": event, "seed": seed,
        "missing": ROWS - len(have),
        "false_failures": sum(not ok and ref in have for ref, (ok, _) in said.items()),
        "false_successes": sum(ok and ref not in have for ref, (ok, _) in said.items()),
        "ids": sum(bool(name) and have.get(ref) == name for ref, (_, name) in said.items()),
        "creates_of_existing": sum(e.status == 400 for e in posts),
        "requests": len(tap.exchanges) + tap.in_the_dark,
        "throttled": sum(e.status == 429 for e in tap.exchanges),
        "in_the_dark": tap.in_the_dark,
        "refused_401": refused,
        "runs": len(codes), "exit_codes": codes, "seconds": round(seconds, 1), "work": work,
    }


COLUMNS = {
    "missing": "rows never created",
    "false_failures": "called failed, but created",
    "ids": "right ids known",
    "creates_of_existing": "creates sent for a customer that exists",
    "requests": "requests in all",
    "throttled": "of them answered 429",
    "runs": "runs until exit 0",
}
EXTRA = {"kill": {}, "outage": {"in_the_dark": "requests during the outage"}, "revoke": {"refused_401": "requests with the refused key"}}


def spread(rows, key):
    values = sorted(row[key] for row in rows)
    return f"{values[0]:,}" if values[0] == values[-1] else f"{values[0]:,} to {values[-1]:,}"


def table(event, rows):
    columns = {**EXTRA[event], **COLUMNS}
    peers = [peer for peer in PEERS if any(row["peer"] == peer for row in rows)]
    lines = [f"| {event} | " + " | ".join(peers) + " |", "|---|" + "--:|" * len(peers)]
    for key, heading in columns.items():
        cells = [spread([row for row in rows if row["peer"] == peer], key) for peer in peers]
        lines.append(f"| {heading} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=lambda path: str(pathlib.Path(path).resolve()))
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--peer", action="append", choices=PEERS)
    arguments.add_argument("--event", action="append", choices=EVENTS)
    options = arguments.parse_args()
    for event in options.event or EVENTS:
        rows = []
        for seed in range(1, options.runs + 1):
            for peer in options.peer or PEERS:
                rows.append(await once(options.binary, peer, event, seed))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        print(table(event, rows) + "\n", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
