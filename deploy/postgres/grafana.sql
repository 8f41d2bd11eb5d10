-- The reader for Grafana: what alarms and tickets are, and nothing of users, sessions and tokens.
-- Run by the service `grants` of docker-compose.yml, again and again until the first worker has made the tables.
\set ON_ERROR_STOP on
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') AS missing \gset
\if :missing
CREATE ROLE grafana LOGIN;
\endif
ALTER ROLE grafana PASSWORD :'password';
GRANT SELECT ON occurrence, transition, ticket, ticket_occurrence, ticket_log, message, alarm_state TO grafana;
