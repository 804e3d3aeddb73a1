import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.util.Properties;

/**
 * Debezium's embedded engine as a reader of two tables: the first copy, then the stream. Prints each event's value, a
 * line of JSON; nothing for a tombstone. Runs until it is killed.
 *
 * Arguments: port, database, publication, tables.
 */
public class Reader {
    public static void main(String[] arguments) {
        Properties p = new Properties();
        p.put("name", "reader");
        p.put("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        p.put("plugin.name", "pgoutput");
        p.put("topic.prefix", "relay");
        p.put("database.hostname", "127.0.0.1");
        p.put("database.port", arguments[0]);
        p.put("database.user", "postgres");
        p.put("database.password", "unused");
        p.put("database.dbname", arguments[1]);
        p.put("slot.name", "debezium");
        p.put("publication.name", arguments[2]);
        p.put("publication.autocreate.mode", "disabled");
        p.put("table.include.list", arguments[3]);
        p.put("snapshot.mode", "initial");
        p.put("skipped.operations", "none");
        p.put("decimal.handling.mode", "string");
        p.put("poll.interval.ms", "50");
        p.put("offset.storage", "org.apache.kafka.connect.storage.MemoryOffsetBackingStore");
        p.put("key.converter.schemas.enable", "false");
        p.put("value.converter.schemas.enable", "false");
        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
            .using(p)
            .using((success, message, error) -> {
                System.err.println(message);
                if (error != null) {
                    error.printStackTrace();
                }
                Runtime.getRuntime().halt(1);
            })
            .notifying(record -> {
                if (record.value() != null) {
                    System.out.println(record.value());
                    System.out.flush();
                }
            })
            .build();
        engine.run();
    }
}
