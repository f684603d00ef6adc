//! Benchmarks of a row's cost outside the network: reading a record, encoding a body, claiming and settling a batch.
//!
//! Run with `cargo bench`. Times are comparable only within one run on one machine; `benches/compare` measures a
//! whole import beside other programs.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::{hint::black_box, io::Cursor};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use customer_import::{
    customer::{Cells, Field, Row, Rules},
    ledger::{
        ApiCustomer, Batch, Effort, EndConcerns, InsertResult, Ledger, NewRun, RequestCounts, RowResult,
        RunEnd, RunState, SourceRows, Target,
    },
    source::{Source, SourceOptions},
};
use tokio::runtime::Runtime;

/// Rows per measurement: the number in one commit at full speed.
const ROWS: usize = 512;

fn csv(first: usize, rows: usize) -> String {
    let mut text = String::from(
        "object_reference_id,mobile_number,email_address,first_name,last_name,mobile_country_code\n",
    );
    for row in first..first + rows {
        text.push_str(&format!(
            "cus-{row:010}-8df6,87157{row:05},liam.pillai{row}@example.com,Liam,Pillai,91\n"
        ));
    }
    text
}

fn read(text: String) -> Vec<Row> {
    let mut source =
        Source::from_reader("bench".into(), Box::new(Cursor::new(text)), &SourceOptions::default()).unwrap();
    std::iter::from_fn(|| source.next_row().unwrap()).collect()
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(ROWS as u64));
    let text = csv(0, ROWS);
    group.bench_function("read, judge and encode", |b| {
        b.iter_batched(|| text.clone(), |text| black_box(read(text)), BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(1));
    let mut cells: Cells<'_> = [None; Field::COUNT];
    for (cell, value) in cells.iter_mut().zip([
        "cus-0000000000-8df6",
        "8715768692",
        "liam.pillai0@example.com",
        "Liam",
        "Pillai",
        "91",
    ]) {
        *cell = Some(value);
    }
    let rules = Rules::default();
    group.bench_function("judge and encode", |b| b.iter(|| rules.read(black_box(&cells)).unwrap()));
    group.finish();
}

async fn begin(path: &std::path::Path) -> Ledger {
    let target = Target { base_url: "http://localhost".into(), merchant_id: "bench".into() };
    let run = NewRun { source: "bench.csv", ..NewRun::default() };
    Ledger::begin_run(&path.into(), &target, &run, || 0).await.unwrap().active().unwrap()
}

/// On a real file, with a real fsync at each commit.
fn batches(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = runtime.block_on(begin(&folder.path().join("bench.db")));
    let mut group = c.benchmark_group("ledger");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    let mut next = 0;
    group.bench_function("claim a batch, then settle it", |b| {
        b.iter_batched(
            || {
                next += ROWS;
                read(csv(next, ROWS))
            },
            |rows| {
                runtime.block_on(async {
                    let claims = ledger
                        .commit(Batch {
                            source: SourceRows { rows, ..SourceRows::default() },
                            ..Batch::default()
                        })
                        .await
                        .unwrap()
                        .claims;
                    let settle = |(at, claim): (usize, customer_import::ledger::Claim)| {
                        let customer_id = format!("cst_{at:016}");
                        claim.settle(
                            RowResult::Insert(InsertResult::Created(ApiCustomer::by_answer(&customer_id))),
                            Effort { requests: 1, ..Effort::default() },
                        )
                    };
                    let settled = claims.into_iter().enumerate().map(settle).collect();
                    ledger.commit(Batch { settled, ..Batch::default() }).await.unwrap();
                });
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let (state, concerns) = (RunState::Completed, EndConcerns::AllWorkers);
    let end = RunEnd { state, exit_code: 0, stop_reason: None, concerns };
    runtime.block_on(ledger.end_run(end, &RequestCounts::default())).unwrap();
}

criterion_group!(benches, records, batches);
criterion_main!(benches);
