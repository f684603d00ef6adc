"""The job with dlt: a custom destination, one row a call.     dlt_import.py CSV BASE_URL WORK_DIR

Its client repeats what may pass; a customer that is there already is asked for its id; a refused key fails the job for now, so that dlt
keeps the package; a rerun finishes pending packages before new data, as its documentation asks.
"""

import csv
import json
import os
import sys

source, base, work = sys.argv[1:4]
os.environ.update(
    DLT_DATA_DIR=work, DLT_PROJECT_DIR=work, RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR", LOAD__WORKERS="16",
    DATA_WRITER__FILE_MAX_ITEMS="50", NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS="50")

import dlt  # noqa: E402: its settings are read when it is imported
from dlt.destinations.exceptions import DestinationTransientException  # noqa: E402
from dlt.sources.helpers import requests  # noqa: E402

client = requests.Client(raise_for_status=False, request_max_attempts=6, request_timeout=10)
verdicts = open(f"{work}/verdicts.jsonl", "a", buffering=1)


@dlt.destination(batch_size=1, name="juspay", naming_convention="direct", skip_dlt_columns_and_tables=True, loader_parallelism_strategy="parallel")
def juspay(items, table):
    for row in items:
        ref = row["object_reference_id"]
        with_key = {"auth": ("k", ""), "headers": {"x-merchantid": "acme", "x-routing-id": ref}}
        answer = client.post(f"{base}/customers", data=row, **with_key)
        if answer.status_code == 400 and "unique" in answer.text:
            answer = client.get(f"{base}/customers/{ref}", **with_key)
        if answer.status_code == 200:
            verdicts.write(json.dumps({"ref": ref, "ok": True, "id": answer.json()["id"]}) + "\n")
        elif answer.status_code in (400, 422):
            verdicts.write(json.dumps({"ref": ref, "ok": False}) + "\n")
        else:
            raise DestinationTransientException(f"status {answer.status_code}")


@dlt.resource(name="customers", write_disposition="append")
def customers():
    with open(source, newline="") as file:
        yield from csv.DictReader(file)


pipeline = dlt.pipeline("juspay", destination=juspay, dataset_name="juspay", pipelines_dir=f"{work}/pipelines")
pipeline.run() if pipeline.has_pending_data else pipeline.run(customers())
