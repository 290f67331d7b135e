-- What a sponsor has chosen; times of the day in Europe/Istanbul.
CREATE TABLE sponsor_settings (
    sponsor_id bigint CONSTRAINT sponsor_settings_pkey PRIMARY KEY CONSTRAINT sponsor_settings_sponsor_known REFERENCES accounts,
    quiet_from time,
    quiet_until time,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sponsor_settings_quiet_hours_whole CHECK ((quiet_from IS NULL) = (quiet_until IS NULL))
);
