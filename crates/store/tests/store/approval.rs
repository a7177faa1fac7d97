//! Lists of approvals, whose arguments may be long.

use netra_protocol::approval::{Approval, ApprovalState};
use netra_protocol::id::{ApprovalId, ToolCallId};
use netra_store::{Ask, Changes};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_page_of_long_approvals_ends_before_it_holds_too_much_and_leaves_none_out() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let sizes = [10, 50_000, 10, 10, 70_000, 200_000, 10, 10];
    for (number, size) in sizes.into_iter().enumerate() {
        let approval = Approval {
            // Two of the same millisecond have no order.
            id: ApprovalId::from_parts(u64::try_from(number).unwrap() + 1, 1),
            run_id: run.id,
            tool_call_id: fixture.runtime.new_id(ToolCallId::from_parts),
            tool_name: "t".into(),
            arguments: serde_json::json!({ "text": "x".repeat(size) }),
            reason: "r".into(),
            state: ApprovalState::Pending,
            expires_at: fixture.runtime.now().plus_millis(60_000),
        };
        let ask = Ask {
            approval,
            agent: "a".into(),
            step: 1,
            key: number.to_string(),
        };
        let changes = Changes {
            asks: vec![ask],
            ..Changes::default()
        };
        let asked = fixture.thought(&run, "asks");
        let committed = fixture.store.commit(&ctx, &run, changes, vec![asked]);
        committed.await.unwrap();
    }
    let (mut cursor, mut pages) = (None::<String>, Vec::new());
    loop {
        let portion = (100, 100_000);
        let page = fixture
            .store
            .approvals_within(&ctx, portion, cursor.as_deref());
        let page = page.await.unwrap();
        let long = |one: &Approval| one.arguments["text"].as_str().unwrap().len();
        pages.push(page.items.iter().map(long).collect::<Vec<_>>());
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    // Newest first; one that is too long by itself is a page by itself.
    let expected = [&[10, 10][..], &[200_000], &[70_000, 10, 10], &[50_000, 10]];
    assert_eq!(pages, expected);
}
