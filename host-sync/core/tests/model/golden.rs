//! A plan as a person reads it.

use host_sync_core::config::Reload;
use policy_core::attachment::Strategy;

use crate::cluster::{Cluster, named, tier};

const STORY: &str = "\
# a namespace is labelled
write the desired state of namespace shop: its label names environment production
# two apps are linked
protect App cart with a finalizer: an App that is linked must not vanish under its workloads
protect App mail with a finalizer: an App that is linked must not vanish under its workloads
record the deliveries of namespace shop: a Secret's name is written down before the Secret
write Secret shop/scout.cart.0f3e55810e (2 keys): cart/production: namespace shop is newly linked
write Secret shop/scout.mail.deployment.front (1 keys): mail/production: namespace shop is newly linked
write the desired state of namespace shop: cart/production is delivered: namespace shop is newly linked; mail/production is delivered: namespace shop is newly linked
record the deliveries of namespace shop: what is delivered, and what nothing wants any more, is written down
touch Deployment shop/api: it does not hold what is wanted of cart
touch Deployment shop/front: it does not hold what is wanted of cart, mail
# nothing happens
# a value changes
record the deliveries of namespace shop: a Secret's name is written down before the Secret
write Secret shop/scout.cart.3852fa86c9 (2 keys): cart/production: the content changed
write the desired state of namespace shop: cart/production is delivered: the content changed
record the deliveries of namespace shop: what is delivered, and what nothing wants any more, is written down
touch Deployment shop/api: it does not hold what is wanted of cart
touch Deployment shop/front: it does not hold what is wanted of cart
# the link to mail is removed
write the desired state of namespace shop: mail links nothing here any more
record the deliveries of namespace shop: what is delivered, and what nothing wants any more, is written down
touch Deployment shop/front: it does not hold what is wanted of mail
# a minute passes
delete Secret shop/scout.mail.deployment.front: nothing wants it and nothing refers to it any more
record the deliveries of namespace shop: what was deleted is forgotten
";

#[test]
fn a_plan_reads_as_what_is_done_and_why() {
    let mut cluster = Cluster::new();
    let mut story = String::new();
    let mut tell = |title: &str, cluster: &mut Cluster| {
        story.push_str("# ");
        story.push_str(title);
        story.push('\n');
        for step in cluster.pass() {
            story.push_str(&step);
            story.push('\n');
        }
        cluster.finish_rollouts();
        cluster.now += 61;
    };
    cluster.label("shop", Some("production"));
    tell("a namespace is labelled", &mut cluster);
    cluster.create_workload("shop", "api", "backend", None).unwrap();
    cluster.create_workload("shop", "front", "web", None).unwrap();
    cluster.create_app("cart", Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_app("mail", Strategy::VolumeMount, Reload::Auto);
    cluster.link("cart", "production", "shop", named("api"));
    cluster.link("cart", "production", "shop", named("front"));
    cluster.link("mail", "production", "shop", tier("web"));
    cluster.save("cart", "production", &[("TOKEN", "1"), ("USER", "1")]);
    cluster.save("mail", "production", &[("PASSWORD", "1")]);
    tell("two apps are linked", &mut cluster);
    tell("nothing happens", &mut cluster);
    cluster.save("cart", "production", &[("TOKEN", "2"), ("USER", "1")]);
    tell("a value changes", &mut cluster);
    cluster.unlink("mail", "production", "shop");
    tell("the link to mail is removed", &mut cluster);
    tell("a minute passes", &mut cluster);
    assert_eq!(story, STORY, "{story}");
}
