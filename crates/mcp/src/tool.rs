//! What agents call: one tool of a tool server.

use std::sync::Arc;

use async_trait::async_trait;
use netra_context::{Secret, Trace};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::tool::ToolServerScope;
use netra_tools::{Call, Tool, ToolSpec};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, GetPromptRequest,
    GetPromptRequestParams, ListPromptsRequest, ListResourceTemplatesRequest, ListResourcesRequest,
    PaginatedRequestParams, ReadResourceRequest, ReadResourceRequestParams, RequestMetaObject,
    Role, ServerResult,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::connection::Progress;
use crate::content::{self, failed};
use crate::instance::TOKEN;
use crate::offer::{Asks, Offer};
use crate::opened::Opened;
use crate::seat::{Seat, Stay};
use crate::seats::Seats;
use crate::server::Server;

pub(crate) struct ServerTool {
    pub(crate) offer: Offer,
    pub(crate) server: Arc<Server>,
    pub(crate) seats: Arc<Seats>,
}

#[async_trait]
impl Tool for ServerTool {
    fn spec(&self) -> &ToolSpec {
        &self.offer.spec
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let result = Box::pin(self.perform(&call)).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(failure) if failure.code == ErrorCode::ToolTimeout => "timeout",
            Err(_) => "failed",
        };
        metrics::counter!("netra_mcp_calls_total",
            "server" => self.server.label().to_owned(), "outcome" => outcome)
        .increment(1);
        result
    }
}

impl ServerTool {
    async fn perform(&self, call: &Call<'_>) -> Result<Value, Failure> {
        match &self.offer.asks {
            Asks::Tool(name) => {
                let mut params = CallToolRequestParams::new(name.clone());
                params.arguments = call.arguments.as_object().cloned();
                params.meta = self.trace_of(call);
                let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
                match self.ask(call, request).await? {
                    ServerResult::CallToolResult(result) => {
                        let output = self.offer.output.as_deref();
                        content::of_tool(call, (&self.server.name, output), result).await
                    }
                    ServerResult::EmptyResult(_) => Ok(json!({ "text": "" })),
                    other => Err(self.unexpected(&other)),
                }
            }
            Asks::ListResources => self.list_resources(call).await,
            Asks::ReadResource => {
                let uri = text(&call.arguments, "uri");
                let params = ReadResourceRequestParams::new(uri);
                let request = ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params));
                match self.ask(call, request).await? {
                    ServerResult::ReadResourceResult(result) => {
                        content::of_resource(call, result.contents).await
                    }
                    other => Err(self.unexpected(&other)),
                }
            }
            Asks::ListPrompts => {
                let request = ListPromptsRequest {
                    params: Some(page(&call.arguments)),
                    ..ListPromptsRequest::default()
                };
                match self
                    .ask(call, ClientRequest::ListPromptsRequest(request))
                    .await?
                {
                    ServerResult::ListPromptsResult(result) => Ok(json!({
                        "prompts": result.prompts, "next_cursor": result.next_cursor
                    })),
                    other => Err(self.unexpected(&other)),
                }
            }
            Asks::GetPrompt => self.get_prompt(call).await,
        }
    }

    async fn list_resources(&self, call: &Call<'_>) -> Result<Value, Failure> {
        let request = ListResourcesRequest {
            params: Some(page(&call.arguments)),
            ..ListResourcesRequest::default()
        };
        let request = ClientRequest::ListResourcesRequest(request);
        let ServerResult::ListResourcesResult(listed) = self.ask(call, request).await? else {
            return Err(failed(
                "not_understood",
                "the server's list of resources is none",
            ));
        };
        let mut told = json!({ "resources": listed.resources, "next_cursor": listed.next_cursor });
        if call.arguments.get("cursor").is_none() {
            // Servers need not have templates, and say so by an error.
            let request = ListResourceTemplatesRequest::default();
            let request = ClientRequest::ListResourceTemplatesRequest(request);
            if let Ok(ServerResult::ListResourceTemplatesResult(listed)) =
                self.ask(call, request).await
            {
                told["templates"] = json!(listed.resource_templates);
            }
        }
        Ok(told)
    }

    async fn get_prompt(&self, call: &Call<'_>) -> Result<Value, Failure> {
        let mut params = GetPromptRequestParams::new(text(&call.arguments, "name"));
        let given = call.arguments.get("arguments").and_then(Value::as_object);
        params.arguments = given.cloned();
        let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(params));
        let result = match self.ask(call, request).await? {
            ServerResult::GetPromptResult(result) => result,
            other => return Err(self.unexpected(&other)),
        };
        let mut messages = Vec::with_capacity(result.messages.len());
        for message in result.messages {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            messages.push(content::of_message(call, role, message.content).await?);
        }
        Ok(json!({ "description": result.description, "messages": messages }))
    }

    /// Asks an instance of the call's owner, and passes progress on meanwhile.
    async fn ask(&self, call: &Call<'_>, request: ClientRequest) -> Result<ServerResult, Failure> {
        let seat = self.seat(call)?;
        let opened = Opened::for_call(&self.server, call).await?;
        let (newest, mut changes) = watch::channel(None::<Progress>);
        let asked = (request, Some(newest));
        let conceal = |token: &Secret| call.conceal(TOKEN, token);
        let given = (&opened, &conceal as &(dyn Fn(&Secret) + Sync));
        let work = seat.ask(call.ctx, &self.seats, given, asked);
        let mut work = std::pin::pin!(work);
        loop {
            let answer = tokio::select! {
                biased;
                answer = &mut work => Some(answer),
                Ok(()) = changes.changed() => None,
            };
            let newest = match &answer {
                // What came just before the answer is told too.
                Some(_) => unseen(&mut changes),
                None => changes.borrow_and_update().clone(),
            };
            if let Some((fraction, words)) = newest {
                call.progress(fraction, words).await?;
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// The call's place in its trace, for a server that the operator has named; what users bring is not told of it.
    fn trace_of(&self, call: &Call<'_>) -> Option<RequestMetaObject> {
        let trace = call.ctx.trace().filter(Trace::is_sampled)?;
        let mut meta = RequestMetaObject::default();
        meta.set_traceparent(trace.header());
        Some(meta).filter(|_| !self.server.is_of_user())
    }

    fn seat(&self, call: &Call<'_>) -> Result<Arc<Seat>, Failure> {
        let user = call.ctx.user_id();
        let user = user.ok_or_else(|| failed("no_user", "no user asks"))?;
        let owner = match self.server.config.scope {
            ToolServerScope::User => Some(Some(user)),
            ToolServerScope::Shared => Some(None),
            ToolServerScope::Run => None,
        };
        Ok(match owner {
            Some(owner) => {
                let seat = self.seats.of(&self.server, owner);
                let name = format!("mcp-stay/{}", self.server.name);
                call.scope
                    .kept(&name, || Stay::new(&seat, call.ctx.runtime()));
                seat
            }
            None => {
                let name = format!("mcp/{}", self.server.name);
                let mut is_new = false;
                let seat = call.scope.kept(&name, || {
                    is_new = true;
                    Seat::new(Arc::clone(&self.server), Some(user))
                });
                if is_new {
                    self.seats.watch(&seat);
                }
                seat
            }
        })
    }

    fn unexpected(&self, answer: &ServerResult) -> Failure {
        let name = &self.server.name;
        let words = match answer {
            ServerResult::InputRequiredResult(_) => {
                "wants to ask a person something, which is not passed on"
            }
            ServerResult::CreateTaskResult(_) => "made a task of the call, which is not followed",
            _ => "gave an answer that cannot be understood",
        };
        failed("not_understood", format!("the tool server {name} {words}"))
    }
}

/// The newest progress, where it has not been looked at.
fn unseen(changes: &mut watch::Receiver<Option<Progress>>) -> Option<Progress> {
    let newest = changes.borrow_and_update();
    newest.has_changed().then(|| newest.clone()).flatten()
}

fn text<'a>(arguments: &'a Value, key: &str) -> &'a str {
    arguments
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn page(arguments: &Value) -> PaginatedRequestParams {
    let cursor = arguments.get("cursor").and_then(Value::as_str);
    PaginatedRequestParams::default().with_cursor(cursor.map(str::to_owned))
}
