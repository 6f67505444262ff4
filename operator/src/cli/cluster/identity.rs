//! `kubectl weft identity issue`: a user is added to its organization, and its keys are
//! written to a folder once the operator has made them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::context::{Context, patiently};
use super::error::ClusterError;
use super::objects::Objects;
use super::secret::{Identity, secret_name};
use crate::api::{Organization, UserRole, UserSpec};
use crate::cli::{CommandError, Output, put};

/// Commands on identities.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Add a user to an organization, and write its certificate and key to a folder.
    Issue(IssueArgs),
}

/// Arguments of `identity issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The organization: its name or MSP id.
    #[arg(value_name = "ORG")]
    pub org: String,
    /// The user: at most 40 of a-z, 0-9 and inner dashes. One that is there already is only
    /// written to the folder.
    #[arg(value_name = "NAME")]
    pub user: String,
    /// What the certificate allows; `client` for a new user when absent.
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Folder to write; `ORG-user-NAME` when absent.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long to wait for the operator, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
}

/// What a certificate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends transactions and queries.
    Client,
    /// Also approves chaincodes and signs changes of channels.
    Admin,
}

impl From<Role> for UserRole {
    fn from(role: Role) -> UserRole {
        match role {
            Role::Client => UserRole::Client,
            Role::Admin => UserRole::Admin,
        }
    }
}

/// Times that a patch is tried when others change the object meanwhile.
const ATTEMPTS: u32 = 5;

/// Carries a command out.
pub(in crate::cli) async fn run(
    context: &Context,
    command: IdentityCommand,
    output: Output,
) -> Result<(), CommandError> {
    let IdentityCommand::Issue(args) = command;
    let organization = ensure_user(context, &args).await?;
    let waiting = wait(context, &organization, &args);
    let identity = patiently("waiting until the operator has made the identity", waiting).await?;
    let name = secret_name(&organization, &args.user);
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from(&name));
    identity.write(&folder)?;
    let certificate = identity.certificate()?;
    let answer = json!({
        "organization": organization.name_any(),
        "mspId": organization.spec.msp_id,
        "user": args.user,
        "secret": name,
        "folder": folder,
        "subject": certificate.subject_text(),
        "notAfter": certificate.not_after().to_string(),
    });
    match output.structured(&answer)? {
        Some(text) => put(&text)?,
        None => {
            put(&format!("{}\n", folder.display()))?;
            eprintln!("{}, valid until {}", certificate.subject_text(), certificate.not_after());
            eprintln!(
                "the certificate is renewed in the Secret {name}; run this again to fetch it"
            );
        }
    }
    Ok(())
}

/// Sees to it that the organization names the user, and returns the organization.
async fn ensure_user(context: &Context, args: &IssueArgs) -> Result<Organization, ClusterError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let objects = Objects::read(context).await?;
        let organization = objects.organization(&args.org)?;
        let Some(users) = users_with(organization, &args.user, args.role)? else {
            return Ok(organization.clone());
        };
        match add(context, organization, &users).await {
            Ok(changed) => {
                remind(organization, args);
                return Ok(changed);
            }
            // Somebody changed the object since it was read: look again.
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
            Err(error) => {
                let name = organization.name_any();
                return Err(ClusterError::at(format!("add the user to Organization {name}"))(
                    error,
                ));
            }
        }
    }
}

/// The resource version makes the API server refuse the patch when the list is not the one
/// that was read any more; a merge patch replaces a list as a whole.
async fn add(
    context: &Context,
    organization: &Organization,
    users: &[UserSpec],
) -> Result<Organization, kube::Error> {
    let patch = json!({
        "metadata": {"resourceVersion": organization.resource_version()},
        "spec": {"users": users},
    });
    let params = PatchParams { field_manager: Some(super::MANAGER.into()), ..Default::default() };
    context
        .api::<Organization>()
        .patch(&organization.name_any(), &params, &Patch::Merge(patch))
        .await
}

fn remind(organization: &Organization, args: &IssueArgs) {
    let name = organization.name_any();
    eprintln!("added {} to spec.users of Organization {name}", args.user);
    eprintln!("add it to your manifest as well, or the next apply of that takes it out again");
}

/// The users with the one that is wanted; `None` when it is among them.
fn users_with(
    organization: &Organization,
    user: &str,
    role: Option<Role>,
) -> Result<Option<Vec<UserSpec>>, ClusterError> {
    let name = organization.name_any();
    if organization.spec.external.is_some() {
        let wish = "issuing identities";
        return Err(ClusterError::External { organization: name, wish });
    }
    let admin = UserSpec { name: "admin".to_owned(), role: UserRole::Admin };
    let users = &organization.spec.users;
    let there = users.iter().chain([&admin]).find(|one| one.name == user);
    match (there, role.map(UserRole::from)) {
        (Some(one), Some(role)) if one.role != role => Err(ClusterError::Refused {
            step: format!("issue an identity to {user} of {name}"),
            message: format!(
                "{user} is there already, with the role {:?}; choose another name, or change spec.users of Organization {name}",
                one.role
            ),
        }),
        (Some(_), _) => Ok(None),
        (None, role) => {
            let mut users = users.clone();
            users.push(UserSpec { name: user.to_owned(), role: role.unwrap_or_default() });
            Ok(Some(users))
        }
    }
}

async fn wait(
    context: &Context,
    organization: &Organization,
    args: &IssueArgs,
) -> Result<Identity, ClusterError> {
    let complete = async {
        loop {
            let found = Identity::find(context, organization, &args.user).await?;
            if let Some(identity) = found.filter(Identity::is_complete) {
                return Ok(identity);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(args.timeout), complete).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ClusterError::Timeout {
            what: format!(
                "there is no Secret {}/{}",
                context.namespace,
                secret_name(organization, &args.user)
            ),
            seconds: args.timeout,
            because: because(context, organization).await,
        }),
    }
}

/// What the organization's status has to say about it.
async fn because(context: &Context, organization: &Organization) -> Vec<String> {
    let api = context.api::<Organization>();
    let now = api.get(&organization.name_any()).await.ok();
    let status = now.and_then(|organization| organization.status).unwrap_or_default();
    let bad = status.conditions.into_iter().filter(|one| one.status != "True");
    let told: Vec<String> =
        bad.map(|one| format!("{} is {}: {}", one.type_, one.status, one.message)).collect();
    if told.is_empty() { vec!["is the operator running?".to_owned()] } else { told }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
