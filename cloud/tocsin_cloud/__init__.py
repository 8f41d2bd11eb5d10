"""The shell on the cloud side: stores readings, runs the alarm engine, opens tickets, tells people, serves API and console."""
