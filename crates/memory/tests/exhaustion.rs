//! More accounts than the ledger has lines: in a process of its own, because it takes them all.

use netra_memory::Account;

#[test]
fn an_account_beyond_the_last_line_is_always_over_its_limit() {
    let mut accounts: Vec<Account> = Vec::new();
    while accounts.len() < 70_000 {
        accounts.push(Account::user());
        if accounts[accounts.len() - 1].is_over() {
            break;
        }
    }
    assert_eq!(accounts.len(), 65_535, "65,534 accounts fit");
    let beyond = accounts.pop().unwrap();
    assert!(beyond.reserve(1).is_err());
    beyond.add_external().set(1000);
    assert_eq!((beyond.current_bytes(), beyond.limit()), (0, 0));
    drop(beyond);
    accounts.pop();
    let next = Account::user();
    assert!(!next.is_over());
    assert!(next.reserve(1).is_ok());
}
