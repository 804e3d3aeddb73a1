-- What a statement did to tables, types and schemas becomes a logical message of its transaction, prefix `rowmill.ddl`.
-- Nothing in here can fail the statement: what goes wrong is a message and a warning.

CREATE SCHEMA IF NOT EXISTS rowmill;
GRANT USAGE ON SCHEMA rowmill TO PUBLIC;

-- A table as it is now: a key is what its updates and deletes are known by.
CREATE OR REPLACE FUNCTION rowmill.ddl_relation(relation oid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_build_object(
        'oid', c.oid::bigint, 'schema', n.nspname, 'table', c.relname,
        'kind', CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END,
        'persistence', CASE c.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'permanent' END,
        'replica_identity',
        CASE c.relreplident WHEN 'd' THEN 'default' WHEN 'f' THEN 'full' WHEN 'i' THEN 'index' ELSE 'nothing' END,
        'parents', (SELECT jsonb_agg(i.inhparent::bigint ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid),
        'columns', (
            SELECT jsonb_agg(jsonb_build_object(
                'number', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                'type_oid', a.atttypid::bigint, 'typmod', a.atttypmod, 'not_null', a.attnotnull,
                'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
                'key', COALESCE(a.attnum = ANY (k.indkey), false)) ORDER BY a.attnum)
            FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index k ON k.indrelid = c.oid
        AND CASE c.relreplident WHEN 'i' THEN k.indisreplident ELSE k.indisprimary END
    WHERE c.oid = relation
$function$;

CREATE OR REPLACE FUNCTION rowmill.ddl_message() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    objects jsonb;
    content jsonb := jsonb_build_object('version', 1, 'event', tg_event, 'tag', tg_tag);
BEGIN
    BEGIN
        IF tg_event = 'sql_drop' THEN
            SELECT jsonb_agg(jsonb_build_object('type', o.object_type, 'identity', o.object_identity,
                'schema', o.schema_name, 'oid', o.objid::bigint, 'column', NULLIF(o.objsubid, 0)))
            INTO objects
            FROM pg_event_trigger_dropped_objects() o
            WHERE NOT o.is_temporary AND (o.object_type IN ('table', 'table column', 'schema')
                OR o.object_type IN ('type', 'domain') AND o.original);
        ELSE
            SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('type', o.object_type, 'identity', o.object_identity,
                'schema', o.schema_name, 'oid', o.objid::bigint, 'column', NULLIF(o.objsubid, 0)))
                || CASE WHEN c.oid IS NULL THEN '{}' ELSE
                    jsonb_build_object('relation', rowmill.ddl_relation(c.oid)) END)
            INTO objects
            FROM pg_event_trigger_ddl_commands() o
            LEFT JOIN pg_class c ON o.classid = 'pg_class'::regclass AND c.oid = o.objid
            WHERE NOT o.in_extension AND (c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
                OR o.classid IN ('pg_type'::regclass, 'pg_namespace'::regclass));
        END IF;
        IF objects IS NULL THEN
            RETURN;
        END IF;
        content := content || jsonb_build_object('objects', objects);
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'rowmill: the message of % is incomplete: %', tg_tag, SQLERRM;
        content := content || jsonb_build_object('error', SQLSTATE);
    END;
    PERFORM pg_logical_emit_message(true, 'rowmill.ddl', content::text);
    -- A message's place is where its record ends, which is where the next one begins. This block is a subtransaction, and of a
    -- message and a row of two of them at the same place the server sends either first. What nobody looks at keeps them apart.
    PERFORM pg_logical_emit_message(true, 'rowmill.heartbeat', '');
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'rowmill: % has no message: %', tg_tag, SQLERRM;
END
$function$;

DROP EVENT TRIGGER IF EXISTS rowmill_ddl_end;
DROP EVENT TRIGGER IF EXISTS rowmill_ddl_drop;
CREATE EVENT TRIGGER rowmill_ddl_drop ON sql_drop EXECUTE FUNCTION rowmill.ddl_message();
CREATE EVENT TRIGGER rowmill_ddl_end ON ddl_command_end EXECUTE FUNCTION rowmill.ddl_message();
COMMENT ON EVENT TRIGGER rowmill_ddl_end IS 'rowmill: messages of DDL, version 1';
