-- What the embedded store's migration 0012 brings: sign-ins are bounded before anybody is known, so no plan's and no
-- user's limit can bound them.
UPDATE plans SET limits = limits - 'logins_per_minute';
UPDATE users SET limits = limits - 'logins_per_minute' WHERE limits ? 'logins_per_minute';
-- Accounts as they were told to whoever may ask again.
UPDATE idempotency SET answer = (answer::jsonb #- '{limits,logins_per_minute}')::text
WHERE operation = 'admin_user_create';
