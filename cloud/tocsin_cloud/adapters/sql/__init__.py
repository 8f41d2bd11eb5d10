"""The SQL database: tables, migrations, sessions."""
