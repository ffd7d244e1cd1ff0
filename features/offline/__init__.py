"""The offline log, and what is made from it: point-in-time joins, training sets, audits."""
