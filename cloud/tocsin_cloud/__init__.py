"""The shell on the cloud side: history, alarms, tickets, messages to people, the HTTP interface and the console."""
