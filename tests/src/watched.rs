//! Changes that are counted where they are applied: what is lost, or applied twice, shows even where it leaves the same
//! tables.

/// A trigger that writes each change of `orders` down, at a target as well (ENABLE ALWAYS): so each of its changes is a
/// statement there, and those of `customers` go together.
pub const WATCH: &str = "
    CREATE TABLE told (op text, what text);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.told VALUES (TG_OP, COALESCE(NEW, OLD)::text); RETURN NULL; END $$;
    CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION tell();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER tell;
";

/// A digest of the shop and of what was written down.
pub const WATCHED: &str = "
    SELECT op, count(*), md5(string_agg(what, '|' ORDER BY what)) FROM told GROUP BY 1
    UNION ALL SELECT 'orders', count(*), md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o
    UNION ALL SELECT 'customers', count(*), md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c ORDER BY 1";
