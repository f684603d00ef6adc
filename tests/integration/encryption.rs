//! The way to a ledger's server: encrypted to whom it is meant, with the password or the certificate of the user.
//!
//! The disaster is a ledger that is sent to another server, and a run at night that ends with a riddle.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{
    server::{Server, ServerIdentity},
    world::{Done, World, done},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap()
}

/// The certificate of this name or address, and its key, in PEM.
fn certificate(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    certificate.distinguished_name.push(DnType::CommonName, name);
    (certificate.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// An address of this machine that no other test uses, so that the server can have its usual port.
fn own_address() -> String {
    static GIVEN: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}", 100 + GIVEN.fetch_add(1, Ordering::Relaxed))
}

/// The user `importer` has this password.
const PASSWORD: &str = "geheim";

/// A server with TLS, where `importer` needs a password and `certified` a certificate.
struct Kitchen {
    world: World,
    address: String,
    _server: Server,
}

impl Kitchen {
    /// A server whose certificate is for this name; its own address if there is none.
    fn new(name: Option<&str>) -> Kitchen {
        let (address, authority) = (own_address(), authority("right"));
        let (certificate_of_server, key) = certificate(&authority, name.unwrap_or(&address));
        let identity =
            ServerIdentity { certificate: certificate_of_server, key, authority_of_clients: authority.pem() };
        let hba = "hostssl all certified all cert\nhostssl all all all scram-sha-256\n";
        let server = Server::start_with_tls(&address, &identity, hba);
        let world = World::new().on_server(&server.url());
        world.file("right.crt", authority.pem());
        world.file("wrong.crt", self::authority("wrong").pem());
        for (name, authority) in [("certified", &authority), ("stranger", &self::authority("wrong"))] {
            let (certificate, key) = certificate(authority, "certified");
            world.file(&format!("{name}.crt"), certificate);
            world.file(&format!("{name}.key"), key);
        }
        world.rows("users.csv", 2);
        let kitchen = Kitchen { world, address, _server: server };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let roles = format!(
            "create role importer login password '{PASSWORD}'; create role certified login;
             grant create on database postgres to importer, certified"
        );
        kitchen.world.schema().unwrap().execute(&runtime, &roles);
        kitchen
    }

    /// An import as this user, with these parameters in the URL and variables in the environment.
    fn import(&self, user: &str, parameters: &str, variables: &[(&str, &str)]) -> Done {
        let url = format!("postgres://{user}@{}/postgres?{parameters}&schema={user}", self.address);
        let args = self.world.import_args(&self.world.path("users.csv"), &["--ledger", &url]);
        let mut command: Command = self.world.command(&args);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        let ended = done(command.envs(variables.iter().copied()).output().unwrap());
        assert!(!(ended.stdout.clone() + &ended.stderr).contains(PASSWORD), "{ended:?}");
        ended
    }

    #[track_caller]
    fn succeeds(&self, user: &str, parameters: &str, variables: &[(&str, &str)]) {
        let ended = self.import(user, parameters, variables);
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Nothing is sent, and one line says why.
    #[track_caller]
    fn fails(&self, user: &str, parameters: &str, variables: &[(&str, &str)], words: &[&str]) {
        let requests = self.world.journal().requests();
        self.import(user, parameters, variables).assert_error(2, words);
        assert_eq!(self.world.journal().requests(), requests);
    }
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_server_is_talked_to_if_its_certificate_is_trusted() {
    let kitchen = Kitchen::new(None);
    let password = &[("PGPASSWORD", PASSWORD)][..];
    let full = |root: &str| format!("sslmode=verify-full&sslrootcert={root}");
    kitchen.succeeds("importer", &full("right.crt"), password);
    kitchen.succeeds("importer", "sslmode=require", password);
    let untrusted = ["UnknownIssuer", "sslrootcert=FILE"];
    kitchen.fails("importer", &full("wrong.crt"), password, &untrusted);
    kitchen.fails("importer", "sslmode=verify-full", password, &untrusted);
    kitchen.fails("importer", "sslmode=verify-ca&sslrootcert=wrong.crt", password, &untrusted);
    kitchen.fails("importer", "sslmode=disable", password, &["no encryption", "the server wants TLS"]);
    kitchen.fails(
        "importer",
        &full("missing.crt"),
        password,
        &["sslrootcert: cannot read missing.crt", "PEM files"],
    );
    kitchen.fails(
        "importer",
        &full("users.csv"),
        password,
        &["sslrootcert: users.csv has no certificate in PEM"],
    );
    let of_environment = [password, &[("PGSSLROOTCERT", "missing.crt")]].concat();
    let ended = kitchen.import("importer", "sslmode=verify-full", &of_environment);
    ended.assert_error(1, &["No such file", "the files that PGSSLROOTCERT,"]);
    let other = Kitchen::new(Some("db.example.test"));
    other.fails("importer", &full("right.crt"), password, &["by the name in its certificate", "verify-ca"]);
    other.succeeds("importer", "sslmode=verify-ca&sslrootcert=right.crt", password);
    // A socket has no TLS.
    let socket = format!("{}?sslmode=require", other._server.url());
    let args = other.world.import_args(&other.world.path("users.csv"), &["--ledger", &socket]);
    other.world.run(&args).assert_error(2, &["server does not support TLS", "turn on ssl at the server"]);
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_user_shows_a_password_or_a_certificate() {
    let kitchen = Kitchen::new(None);
    let world = &kitchen.world;
    let mode = |name: &str, mode| {
        std::fs::set_permissions(world.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let tls = "sslmode=verify-full&sslrootcert=right.crt";
    let file = &[("PGPASSFILE", "pgpass")][..];
    world.file("pgpass", format!("{}:*:*:importer:{PASSWORD}\n", kitchen.address));
    mode("pgpass", 0o600);
    kitchen.succeeds("importer", tls, file);
    let refused = ["password authentication failed", "a PGPASSFILE that nobody else may read"];
    mode("pgpass", 0o640);
    kitchen.fails("importer", tls, file, &refused);
    kitchen.fails("importer", tls, &[("PGPASSFILE", "missing")], &refused);
    kitchen.fails("importer", tls, &[("PGPASSWORD", "another")], &refused);
    kitchen.fails("importer", tls, &[], &refused);

    let with = |certificate: &str, key: &str| format!("{tls}&sslcert={certificate}&sslkey={key}");
    kitchen.succeeds("certified", &with("certified.crt", "certified.key"), &[]);
    kitchen.fails("certified", tls, &[], &["a valid client certificate", "in sslcert and sslkey"]);
    kitchen.fails(
        "certified",
        &with("stranger.crt", "stranger.key"),
        &[],
        &["check the client's certificate in sslcert and sslkey"],
    );
    kitchen.fails(
        "certified",
        &with("certified.crt", "stranger.key"),
        &[],
        &["KeyMismatch", "check the files"],
    );
    kitchen.fails(
        "certified",
        &with("certified.crt", "missing.key"),
        &[],
        &["sslkey: cannot read missing.key"],
    );
    kitchen.fails("certified", &with("certified.crt", "right.crt"), &[], &["right.crt has no private key"]);
    kitchen.fails(
        "certified",
        &format!("{tls}&sslcert=certified.crt"),
        &[],
        &["sslcert and sslkey go together"],
    );
    world.file("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
    kitchen.fails("certified", &with("certified.crt", "encrypted.key"), &[], &["is encrypted"]);
}
