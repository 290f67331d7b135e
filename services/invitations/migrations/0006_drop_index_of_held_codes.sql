-- Written with every code that is given out, and read by nobody: what is reserved or spent is counted by the invitations.
DROP INDEX codes_held_idx;
