//! What the target checks at the commit alone.

use super::*;

/// A foreign key that acts, as the role can't have it that it doesn't, and a role that writes.
const DEFERRED: &str = "
    CREATE TABLE parents (id bigint PRIMARY KEY);
    CREATE TABLE children (id bigint PRIMARY KEY, parent bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
    CREATE ROLE writer LOGIN; GRANT CREATE ON DATABASE postgres TO writer;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON parents, children TO writer";

/// The same from a trigger that acts whoever writes, in its own words.
const WATCHED: &str = "
    CREATE TABLE parents (id bigint PRIMARY KEY);
    CREATE TABLE children (id bigint PRIMARY KEY, parent bigint);
    CREATE FUNCTION has_parent() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NOT EXISTS (SELECT FROM public.parents WHERE id = NEW.parent) THEN RAISE EXCEPTION 'an orphan'; END IF;
        RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER watched AFTER INSERT ON children DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION has_parent();
    ALTER TABLE children ENABLE ALWAYS TRIGGER watched";

fn tables() -> [Arc<Relation>; 2] {
    [
        relation("parents", &[("id", 20, "bigint", true)]),
        relation(
            "children",
            &[("id", 20, "bigint", true), ("parent", 20, "bigint", false)],
        ),
    ]
}

/// Three transactions, each with a child before its parent; the second one's parent is left out.
fn families(sequence: u64, orphan: bool) -> Delivery {
    let [parents, children] = tables();
    let mut builder = Builder::new();
    for place in 0..3 {
        let number = sequence * 3 + place;
        let id = number.to_string();
        builder = builder
            .transaction(number * 0x10, Part::Whole)
            .insert(&children, &[text(&id), text(&id)]);
        if place != 1 || !orphan {
            builder = builder.insert(&parents, &[text(&id)]);
        }
    }
    builder.delivery(sequence)
}

fn found(cluster: &Cluster) -> String {
    let select = "SELECT count(*), count(DISTINCT xmin::text), (SELECT lsn FROM rowmill.positions) FROM children";
    cluster.sql("postgres", select).unwrap()
}

#[tokio::test]
async fn what_is_refused_at_the_commit_is_told_with_its_transaction() {
    for (create, role) in [(DEFERRED, "writer@"), (WATCHED, "postgres@")] {
        let cluster = Cluster::start().unwrap();
        cluster.script("postgres", create).unwrap();
        let config = config::PostgresSink {
            mode: WriteMode::Mirror,
            ..sink_to(cluster.url("postgres").replace("postgres@", role))
        };
        let context = context("warehouse");
        let mut sink = PostgresSink::new(&config);
        sink.open(&context).await.unwrap();
        deliver(&mut sink, &families(1, false)).await;
        assert_eq!(found(&cluster), "3|1|0/58", "together");

        // As its driver does.
        let orphan = families(2, true);
        let lost = applied(&mut sink, &orphan).await.unwrap_err();
        assert!(matches!(lost, SinkError::Transient(_)), "{lost}");
        sink.open(&context).await.unwrap();
        let refused = problem(applied(&mut sink, &orphan).await);
        assert_eq!(refused.code, "E0410", "{refused:?}");
        assert!(refused.headline.contains("public.children"), "{refused:?}");
        assert!(
            refused.cause.as_ref().unwrap().contains("at position 0/70"),
            "{refused:?}"
        );
        assert!(refused.help.contains("rowmill skip warehouse --to 0/70"), "{refused:?}");
        assert_eq!(found(&cluster), "4|2|0/68", "what comes before it is there");
        drop(sink);

        // It is settled while they are gone through one by one; what comes then is together again.
        let mut sink = PostgresSink::new(&config);
        sink.open(&context).await.unwrap();
        let rest = crate::sink::driver::without_known(&orphan, Lsn(0x68)).unwrap();
        applied(&mut sink, &rest).await.unwrap_err();
        cluster.sql("postgres", "INSERT INTO parents VALUES (7)").unwrap();
        sink.open(&context).await.unwrap();
        deliver(&mut sink, &rest).await;
        assert_eq!(found(&cluster), "6|4|0/88");
        deliver(&mut sink, &families(3, false)).await;
        assert_eq!(found(&cluster), "9|5|0/B8");
    }
}
