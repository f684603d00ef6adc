//! `import`: what it sends and what it reports.

use crate::world::World;

#[test]
fn every_row_is_created_once_and_a_second_run_sends_nothing() {
    let world = World::new();
    let file = world.rows("users.csv", 1000);
    let first = world.import(&file, &[]);
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(world.outcomes(), "created=1000");
    assert_eq!(world.journal().creates(), 1000);

    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(world.outcomes(), "unchanged=1000");
    assert_eq!(world.journal().requests(), 1000);

    let exported = world.export("created");
    let created = world.journal().created();
    assert_eq!(exported.len(), 1000);
    for row in exported {
        assert_eq!(created[&row[0]].0, row[1]);
    }
}
