# Read by the entry point of the image once, when it has made an empty cluster: the database, and its owner, who makes
# the services' schemas and roles (the migrate steps), and is no superuser. Nobody knows the superuser's password.
psql -v ON_ERROR_STOP=1 --no-psqlrc --username postgres --dbname postgres <<'SQL'
\set password `cat /run/secrets/owner-password`
CREATE ROLE partner_hub LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE partner_hub OWNER partner_hub;
-- A role gets into this database only if a migrate step lets it in.
REVOKE ALL ON DATABASE partner_hub FROM PUBLIC;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
SQL
