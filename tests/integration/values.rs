//! A value is sent as its owner means it, or its row is a fault: nothing is guessed, and nothing of a row is left out that says
//! what the rest means.
//!
//! The disaster is data that was altered by a program on its way into the file, and that goes on to the API without a word.

use serde_json::{Value, json};

use crate::world::{MERCHANT, World, faults};

/// The country codes and numbers of all customers, by reference.
fn sent(world: &World, references: &[&str]) -> Vec<String> {
    let phone = |reference: &&str| {
        let customer = world.journal().customer(MERCHANT, reference)?;
        Some(format!("{} {}", customer.mobile_country_code, customer.mobile_number))
    };
    references.iter().filter_map(phone).collect()
}

const CODES: &str = "object_reference_id,mobile_number,mobile_country_code\n\
    customer-1,7911123456,+44\ncustomer-2,7911123456,44.0\ncustomer-3,7911123456,GB\n\
    customer-4,7911123456,44\ncustomer-5,+44 7911 123456,91\ncustomer-6,+44 7911 123456,UK\n";

/// Without its code, a British number would be taken for an Indian one.
#[test]
fn a_country_code_is_read_or_refused_and_never_dropped() {
    for more in [&[][..], &["--validation", "lenient"], &["--set", "mobile_country_code=91"]] {
        let world = World::new();
        let file = world.file("users.csv", CODES);
        let options = [&["--phone-region", "IN", "--drop-invalid-optional"], more].concat();
        let done = world.import(&file, &options);
        assert_eq!((done.code, world.outcomes().as_str()), (3, "created=3 invalid=3"), "{done:?}");
        let said: Vec<String> = world.failed_rows().iter().map(faults).collect();
        let (unknown, other) = ("mobile_country_code:digits", "mobile_country_code:country-code");
        assert_eq!(said, [unknown, other, unknown]);
        let british = "44 7911123456";
        assert_eq!(sent(&world, &["customer-1", "customer-2", "customer-4"]), [british; 3]);
        let adjustment = json!({
            "adjustment": "country-code", "field": "mobile_country_code", "rows": 2, "first_lines": [2, 3],
        });
        assert_eq!(world.summary()["adjustments"], json!([adjustment]));
        assert_eq!(world.summary()["dropped"], json!([]));
    }
}

/// Where the code is empty, the API takes a number for an Indian one.
#[test]
fn without_a_region_a_code_is_dropped_only_if_it_is_the_one_that_the_api_fills_in() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,mobile_country_code\n\
                customer-1,9876500101,+91\ncustomer-2,7911123456,+44\ncustomer-3,7911123456,GB\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--drop-invalid-optional"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 invalid=2"), "{done:?}");
    let dropped = json!([{"field": "mobile_country_code", "rule": "digits", "rows": 1}]);
    assert_eq!(world.summary()["dropped"], dropped);
    // The advice is one that helps.
    let done = world.run(&["validate", "users.csv", "--format", "json", "--drop-invalid-optional"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(found["faults"][0]["option"], "--phone-region CC", "{found}");
}
