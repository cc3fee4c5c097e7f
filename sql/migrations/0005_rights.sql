-- Who may use our tables and functions: their owner and the roles that they are granted to by name. No other role,
-- whatever Postgres gives to PUBLIC, or default privileges to roles such as Supabase's anon.

SELECT chat_stats_run($run$
-- Whether a role (0: PUBLIC) gets rights on all that an owner creates, so that having them means no more than that.
-- p_kind is 'r' (table), 'S' (sequence) or 'f' (function), as in pg_default_acl.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_has_by_default(p_role oid, p_kind "char", p_owner oid, p_schema oid)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT p_role = 0::oid OR EXISTS (
        SELECT
        FROM pg_default_acl AS d
        CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a
        WHERE d.defaclobjtype = p_kind AND d.defaclrole = p_owner AND d.defaclnamespace IN (0::oid, p_schema)
          AND a.grantee = p_role
    )
$function$;

-- The roles that chat_stats_grant_read() named: those that were granted this function with grant option, which neither
-- default privileges nor GRANT ALL ON ALL FUNCTIONS gives.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_readers()
RETURNS TABLE (role name)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT r.rolname
    FROM pg_proc AS p
    CROSS JOIN LATERAL aclexplode(p.proacl) AS a
    JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE p.oid = 'stats_schema.chat_stats_readers()'::regprocedure::oid
      AND a.is_grantable AND a.grantor = p.proowner AND a.grantee <> p.proowner
$function$;

CREATE OR REPLACE FUNCTION stats_schema.chat_stats_close(p_what text, p_kind "char", p_owner oid, p_schema oid, p_acl aclitem[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN a.grantee = 0::oid THEN 'PUBLIC' ELSE quote_ident(r.rolname::text) END
        FROM aclexplode(p_acl) AS a
        LEFT JOIN pg_roles AS r ON r.oid = a.grantee
        WHERE a.grantee <> p_owner AND stats_schema.chat_stats_has_by_default(a.grantee, p_kind, p_owner, p_schema)
          AND NOT (p_kind = 'f'::"char" AND a.is_grantable)
    LOOP
        -- With what the role passed on to others.
        EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', p_what, grantee);
    END LOOP;
END
$function$;

-- Readers may call the functions that change nothing. These run with their caller's rights.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_close_function(p_function regprocedure)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ours record;
    reader name;
BEGIN
    SELECT
        p.proowner AS owner, p.pronamespace AS schema, p.provolatile <> 'v'::"char" AS reads,
        COALESCE(p.proacl, acldefault('f'::"char", p.proowner)) AS acl
    INTO ours
    FROM pg_proc AS p WHERE p.oid = p_function::oid;
    PERFORM stats_schema.chat_stats_close(
        format('FUNCTION %s', p_function), 'f'::"char", ours.owner, ours.schema, ours.acl
    );
    FOR reader IN
        SELECT r.role FROM stats_schema.chat_stats_readers() AS r
        WHERE ours.reads AND NOT has_function_privilege(r.role, p_function::oid, 'EXECUTE')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', p_function, reader);
    END LOOP;
END
$function$;

-- Readers may read the tables if they may read all requests: what these sum up is no news to them then.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_close_tables()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ours record;
    reader name;
BEGIN
    FOR ours IN
        SELECT
            format('TABLE %s', c.oid::regclass) AS what, c.oid AS table_oid,
            CASE c.relkind WHEN 'S'::"char" THEN 'S'::"char" ELSE 'r'::"char" END AS kind,
            c.relowner AS owner, c.relnamespace AS schema,
            (SELECT array_agg(all_of.acl) FROM (
                SELECT t.acl FROM unnest(c.relacl) AS t (acl)
                UNION ALL
                SELECT t.acl FROM pg_attribute AS a CROSS JOIN LATERAL unnest(a.attacl) AS t (acl)
                WHERE a.attrelid = c.oid
            ) AS all_of) AS acl
        FROM pg_class AS c
        WHERE c.relnamespace::regnamespace || '.' = 'stats_schema.'
          AND c.relname::text LIKE 'chat\_stats\_%' AND c.relkind IN ('r'::"char", 'p'::"char", 'S'::"char")
          AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        PERFORM stats_schema.chat_stats_close(ours.what, ours.kind, ours.owner, ours.schema, ours.acl);
        FOR reader IN
            SELECT r.role
            FROM stats_schema.chat_stats_readers() AS r
            JOIN pg_roles AS known ON known.rolname = r.role
            JOIN pg_class AS c ON c.oid = to_regclass('gateway_schema.chat_completion_requests')::oid
            WHERE ours.kind = 'r'::"char" AND has_table_privilege(r.role, c.oid, 'SELECT')
              AND (known.rolbypassrls OR NOT c.relrowsecurity)
              AND NOT has_table_privilege(r.role, ours.table_oid, 'SELECT')
        LOOP
            EXECUTE format('GRANT SELECT ON %s TO %I', ours.what, reader);
        END LOOP;
    END LOOP;
END
$function$;

-- Lets a role read: call the functions that answer, and, if it may read all requests, use the rollup's tables.
-- `migrate` grants it what later versions add. It needs SELECT on the gateway's three tables beside this.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_grant_read(p_role regrole)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION stats_schema.chat_stats_readers() TO %s WITH GRANT OPTION', p_role);
    PERFORM stats_schema.chat_stats_close_function(p.oid::regprocedure)
    FROM pg_proc AS p
    WHERE p.pronamespace::regnamespace || '.' = 'stats_schema.'
      AND obj_description(p.oid, 'pg_proc'::name) LIKE 'chat-stats;%';
    PERFORM stats_schema.chat_stats_close_tables();
END
$function$;

-- Takes from a role all that it has of ours.
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_revoke_read(p_role regrole)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ours text;
BEGIN
    FOR ours IN
        SELECT format('FUNCTION %s', p.oid::regprocedure)
        FROM pg_proc AS p
        WHERE p.pronamespace::regnamespace || '.' = 'stats_schema.'
          AND obj_description(p.oid, 'pg_proc'::name) LIKE 'chat-stats;%'
        UNION ALL
        SELECT format('TABLE %s', c.oid::regclass)
        FROM pg_class AS c
        WHERE c.relnamespace::regnamespace || '.' = 'stats_schema.'
          AND c.relname::text LIKE 'chat\_stats\_%' AND c.relkind IN ('r'::"char", 'p'::"char")
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', ours, p_role);
    END LOOP;
END
$function$;

SELECT stats_schema.chat_stats_register_function(f.ours::regprocedure)
FROM unnest(ARRAY[
    'stats_schema.chat_stats_index_statements(regclass, text, name[], boolean)', 'stats_schema.chat_stats_is_number(oid)',
    'stats_schema.chat_stats_with_schemas(text)', 'stats_schema.chat_stats_run(text)',
    'stats_schema.chat_stats_install(text, text)', 'stats_schema.chat_stats_function_note()',
    'stats_schema.chat_stats_set_aside(regprocedure)', 'stats_schema.chat_stats_claim_function(text)',
    'stats_schema.chat_stats_is_planted(oid, oid, oid)', 'stats_schema.chat_stats_register_function(regprocedure)',
    'stats_schema.chat_stats_adopt_function(text)',
    'stats_schema.chat_stats_has_by_default(oid, "char", oid, oid)', 'stats_schema.chat_stats_readers()',
    'stats_schema.chat_stats_close(text, "char", oid, oid, aclitem[])',
    'stats_schema.chat_stats_close_function(regprocedure)', 'stats_schema.chat_stats_close_tables()',
    'stats_schema.chat_stats_grant_read(regrole)', 'stats_schema.chat_stats_revoke_read(regrole)'
]) AS f (ours);
$run$);
