"""The job with asyncio and aiohttp, in fifty lines.     asyncio_import.py CSV BASE_URL WORK_DIR

Repeats temporary errors, with growing delays and Retry-After; looks up the id of an existing customer; logs each result, and skips finished
rows on a rerun; a refused key ends it.
"""

import asyncio
import csv
import json
import pathlib
import sys

import aiohttp

source, base, work = sys.argv[1:4]
log = pathlib.Path(work, "verdicts.jsonl")


async def call(session, ref, method, path, form=None):
    for attempt in range(8):
        try:
            headers = {"x-merchantid": "acme", "x-routing-id": ref}
            async with session.request(method, base + path, data=form, headers=headers) as answer:
                if answer.status == 401:
                    sys.exit("the key is refused")
                if answer.status != 429 and answer.status < 500:
                    return answer.status, await answer.json()
                delay = float(answer.headers.get("Retry-After", 0.5 * 2**attempt))
        except (aiohttp.ClientError, asyncio.TimeoutError):
            delay = 0.5 * 2**attempt
        await asyncio.sleep(delay)
    return None, {}


async def work_off(session, rows, results):
    for row in rows:
        ref = row["object_reference_id"]
        status, answer = await call(session, ref, "POST", "/customers", row)
        if status == 400 and "unique" in json.dumps(answer):
            status, answer = await call(session, ref, "GET", f"/customers/{ref}")
        results.write(json.dumps({"ref": ref, "ok": status == 200, "id": answer.get("id")}) + "\n")


async def main():
    lines = log.read_text().splitlines() if log.exists() else []
    # The last line may be cut by a crash: that row is sent again.
    done = {line["ref"] for line in map(json.loads, (it for it in lines if it.endswith("}"))) if line["ok"]}
    rows = iter([row for row in csv.DictReader(open(source, newline="")) if row["object_reference_id"] not in done])
    timeout = aiohttp.ClientTimeout(total=10)
    with open(log, "a", buffering=1) as results:
        async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("k", ""), timeout=timeout) as session:
            await asyncio.gather(*(work_off(session, rows, results) for _ in range(16)))
    said = dict((line["ref"], line["ok"]) for line in map(json.loads, (it for it in log.read_text().splitlines() if it.endswith("}"))))
    sys.exit(not all(said.values()))


asyncio.run(main())
