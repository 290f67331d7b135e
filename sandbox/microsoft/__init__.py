"""A local Microsoft: device-code sign-in over TLS and the Partner Center referrals API, with knobs for every trap."""
