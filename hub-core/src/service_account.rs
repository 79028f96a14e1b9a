//! What a token of a service account says (Kubernetes `pkg/serviceaccount/claims.go`), for who makes them and who checks them.
//!
//! Nothing is signed or verified here.

use serde::{Deserialize, Deserializer, Serialize};

use crate::api::User;

/// The claims of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who is to take it. One text is a list of one.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Until when it is good, in seconds since 1970.
    pub exp: i64,
    /// When it was made.
    #[serde(default)]
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its own name.
    #[serde(default)]
    pub jti: String,
    /// Whose it is.
    #[serde(rename = "kubernetes.io")]
    pub about: About,
    /// From when on it is good.
    #[serde(default)]
    pub nbf: i64,
    /// The user name.
    pub sub: String,
}

/// Whose a token is, and what it lives and dies with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of the account, and of pod and secret.
    pub namespace: String,
    /// Where the pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// The pod that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// The secret that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The account.
    pub serviceaccount: Named,
}

/// An object, this one and no successor of its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its uid; empty where nobody knew it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Claims {
    /// Who shows a token with these claims.
    pub fn user(&self) -> User {
        let about = &self.about;
        let mut user = User::of_service_account(&about.namespace, &about.serviceaccount.name);
        user.uid.clone_from(&about.serviceaccount.uid);
        let mut say = |what: &str, value: String| {
            let key = format!("authentication.kubernetes.io/{what}");
            user.extra.insert(key, vec![value]);
        };
        if !self.jti.is_empty() {
            say("credential-id", format!("JTI={}", self.jti));
        }
        for (what, named) in [("pod", &about.pod), ("node", &about.node)] {
            let Some(named) = named else { continue };
            say(&format!("{what}-name"), named.name.clone());
            if !named.uid.is_empty() {
                say(&format!("{what}-uid"), named.uid.clone());
            }
        }
        user
    }

    /// Whether account and subject are the same one: they are said twice.
    pub fn agree(&self) -> bool {
        let (namespace, name) = (&self.about.namespace, &self.about.serviceaccount.name);
        self.sub == User::of_service_account(namespace, name).name
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
