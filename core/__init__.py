"""What every part of Ostiary needs and none owns: settings, database, secrets, audit, outbox, command tree."""
