//! A reference has one row that is sent, wherever that row is when a second one arrives.
//!
//! The disaster: between its claim and the commit that writes it, a row is in no table by its reference. A second row
//! of the file that arrives in that gap, and is treated as new, is sent too, and the ledger has two owners of one
//! customer. The gap is as short as a response takes and is rarely hit, so here the ledger is driven step by step, on
//! a real file.

use std::{io::Cursor, path::Path};

use customer_import::{
    customer::Row,
    ledger::{
        ApiCustomer, Batch, Claim, Committed, Effort, InsertResult, Ledger, NewRun, Outcome, RowResult,
        Settlement, SourceRows, Target,
    },
    source::{Source, SourceOptions},
};
use tokio::runtime::Runtime;

use crate::world::{World, rows};

async fn begin(path: &Path) -> Ledger {
    let target = Target { base_url: "http://localhost".into(), merchant_id: "owners".into() };
    let run = NewRun { source: "users.csv", ..NewRun::default() };
    Ledger::begin_run(&path.into(), &target, &run, || 0).await.unwrap().active().unwrap()
}

fn read(numbers: std::ops::Range<usize>) -> Vec<Row> {
    let input = Box::new(Cursor::new(rows(numbers)));
    let mut source = Source::from_reader("users.csv".into(), input, &SourceOptions::default()).unwrap();
    std::iter::from_fn(|| source.next_row().unwrap()).collect()
}

fn created(claim: Claim) -> Settlement {
    let customer_id = format!("cst_{}", claim.line());
    claim.settle(
        RowResult::Insert(InsertResult::Created(ApiCustomer::by_answer(&customer_id))),
        Effort { requests: 1, ..Effort::default() },
    )
}

async fn commit(ledger: &mut Ledger, rows: Vec<Row>, settled: Vec<Settlement>) -> Committed {
    let source = SourceRows { rows, ..SourceRows::default() };
    ledger.commit(Batch { source, settled, flush: true, ..Batch::default() }).await.unwrap()
}

fn duplicates(committed: &Committed) -> (usize, u64) {
    (committed.claims.len(), committed.tally.get(Outcome::Duplicate))
}

#[test]
fn a_second_row_comes_with_the_commit_that_settles_the_first() {
    let (world, runtime) = (World::new(), Runtime::new().unwrap());
    runtime.block_on(async {
        let mut ledger = begin(&world.ledger()).await;
        let claims = commit(&mut ledger, read(0..3), Vec::new()).await.claims;
        let settled = claims.into_iter().map(created).collect();
        let committed = commit(&mut ledger, read(0..4), settled).await;
        assert_eq!(duplicates(&committed), (1, 3), "the fourth row alone is new");
        let committed = commit(&mut ledger, read(0..4), Vec::new()).await;
        assert_eq!(duplicates(&committed), (0, 7), "three are written, one is open");
    });
}

/// So many rows pass in between that the hash of the first has moved to the ledger's own index.
#[test]
fn a_second_row_comes_while_the_first_waits_for_its_answer() {
    let (world, runtime) = (World::new(), Runtime::new().unwrap());
    let (mut ledger, slow) = runtime.block_on(async {
        let mut ledger = begin(&world.ledger()).await;
        let slow = commit(&mut ledger, read(0..1), Vec::new()).await.claims;
        let mut settled = Vec::new();
        for from in (1..40_001).step_by(1_000) {
            let committed = commit(&mut ledger, read(from..from + 1_000), settled).await;
            settled = committed.claims.into_iter().map(created).collect();
        }
        commit(&mut ledger, Vec::new(), settled).await;
        (ledger, slow)
    });
    assert!(world.number("select row from watermark") > 1, "the hash of the first is merged");
    runtime.block_on(async {
        let committed = commit(&mut ledger, read(0..1), Vec::new()).await;
        assert_eq!(duplicates(&committed), (0, 1), "the first is still open");
        let settled = slow.into_iter().map(created).collect();
        let committed = commit(&mut ledger, read(0..1), settled).await;
        assert_eq!(duplicates(&committed), (0, 2), "it is settled in this very commit");
        let committed = commit(&mut ledger, read(0..1), Vec::new()).await;
        assert_eq!(duplicates(&committed), (0, 3), "it is written");
    });
    assert_eq!(world.number("select count(*) from row where outcome = 'created'"), 40_001);
}
