import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;

/**
 * Debezium's embedded engine with JSON out, at its best: no schema in the messages, batches, large queues.
 *
 * Arguments: port, slot, rows, and what is measured: `rate` takes batches of 8192, `latency` keeps, for each row, its
 * arrival minus its commit. Prints one line of JSON once so many rows have come, and halts.
 */
public class Harness {
    static long events, bytes, firstNanos, firstCpuNanos;
    static long[] latenciesUs;

    public static void main(String[] arguments) throws Exception {
        String port = arguments[0], slot = arguments[1];
        long rows = Long.parseLong(arguments[2]);
        boolean latency = arguments[3].equals("latency");
        latenciesUs = latency ? new long[(int) rows] : null;
        Properties p = new Properties();
        p.put("name", "bench");
        p.put("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        p.put("plugin.name", "pgoutput");
        p.put("topic.prefix", "bench");
        p.put("database.hostname", "127.0.0.1");
        p.put("database.port", port);
        p.put("database.user", "postgres");
        p.put("database.password", "unused");
        p.put("database.dbname", "postgres");
        p.put("slot.name", slot);
        p.put("slot.drop.on.stop", "false");
        p.put("publication.name", "bench");
        p.put("publication.autocreate.mode", "disabled");
        p.put("table.include.list", "public.orders");
        p.put("snapshot.mode", "no_data");
        p.put("offset.storage", "org.apache.kafka.connect.storage.MemoryOffsetBackingStore");
        p.put("key.converter.schemas.enable", "false");
        p.put("value.converter.schemas.enable", "false");
        if (!latency) {
            p.put("max.batch.size", "8192");
            p.put("max.queue.size", "65536");
        } else {
            p.put("poll.interval.ms", "1");
        }
        var cpu = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
            .using(p)
            .using((success, message, error) -> {
                System.err.println(message);
                if (error != null) {
                    error.printStackTrace();
                }
                Runtime.getRuntime().halt(1);
            })
            .notifying((List<ChangeEvent<String, String>> records,
                        DebeziumEngine.RecordCommitter<ChangeEvent<String, String>> committer) -> {
                if (events == 0) {
                    firstNanos = System.nanoTime();
                    firstCpuNanos = cpu.getProcessCpuTime();
                }
                for (ChangeEvent<String, String> record : records) {
                    String value = record.value();
                    if (value != null && record.destination().endsWith("public.orders")) {
                        bytes += value.length();
                        if (latency && events < rows) {
                            latenciesUs[(int) events] = nowUs() - committedUs(value);
                        }
                        events++;
                    }
                    committer.markProcessed(record);
                }
                committer.markBatchFinished();
                if (events >= rows) {
                    end(System.nanoTime() - firstNanos, cpu.getProcessCpuTime() - firstCpuNanos);
                }
            })
            .build();
        engine.run();
    }

    static long nowUs() {
        var now = java.time.Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
    }

    /** The source block's time: the commit's by the server's clock. */
    static long committedUs(String value) {
        int at = value.indexOf("\"ts_us\":", value.indexOf("\"source\":")) + 8;
        int end = at;
        while (Character.isDigit(value.charAt(end))) {
            end++;
        }
        return Long.parseLong(value.substring(at, end));
    }

    static void end(long nanos, long cpuNanos) {
        StringBuilder latencies = new StringBuilder();
        if (latenciesUs != null) {
            // The first tenth warms the engine up.
            for (long us : Arrays.copyOfRange(latenciesUs, latenciesUs.length / 10, latenciesUs.length)) {
                latencies.append(latencies.length() == 0 ? "" : ",").append(us);
            }
        }
        System.out.printf("{\"events\":%d,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"bytes\":%d,\"latencies_us\":[%s]}%n",
            events, nanos / 1e9, cpuNanos / 1e9, bytes, latencies);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
