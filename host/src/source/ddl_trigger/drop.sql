DROP EVENT TRIGGER IF EXISTS rowmill_ddl_end;
DROP EVENT TRIGGER IF EXISTS rowmill_ddl_drop;
DROP FUNCTION IF EXISTS rowmill.ddl_message();
DROP FUNCTION IF EXISTS rowmill.ddl_relation(oid);
