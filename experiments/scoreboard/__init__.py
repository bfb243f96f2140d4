"""Parts of the doctor's scoreboard."""
