"""What nodes speak to: /key, /ts2021, and the requests inside."""
