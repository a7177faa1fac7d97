-- Sign-ins are bounded before anybody is known, so no plan's and no user's limit can bound them.
UPDATE plans SET limits = json_remove(limits, '$.logins_per_minute');
UPDATE users SET limits = json_remove(limits, '$.logins_per_minute')
WHERE limits LIKE '%logins_per_minute%';
-- Accounts as they were told to whoever may ask again.
UPDATE idempotency SET answer = json_remove(answer, '$.limits.logins_per_minute')
WHERE operation = 'admin_user_create';
