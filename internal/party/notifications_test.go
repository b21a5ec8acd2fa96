package party

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/notify"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func notifying(t *testing.T, body string) (*Config, error) {
	t.Helper()
	return Load(write(t, "node_id: A\nnotifications:\n"+body), nil)
}

// TestNotificationsConfig loads receivers of both kinds.
func TestNotificationsConfig(t *testing.T) {
	secret := write(t, webhookSecret+"\n")
	c, err := notifying(t, `
  console_url: https://hutong.bank.example:9380
  smtp: {address: "smtp.bank.example:587", user: hutong, password: p4ss, from: "Hutong <h@bank.example>"}
  receivers:
    - name: duty
      webhook: {url: "https://alarm.bank.example/hooks/t0ken", secret_file: `+secret+`}
      events: [job_failed, runner_silent]
      flows: [nightly]
      roles: [host, guest.1]
      initiators: [B]
      clients: [alice]
    - name: zhang
      email: [zhang@bank.example]
      events: [approval]
      language: zh
`)
	require.NoError(t, err)
	n, err := c.Notifier()
	require.NoError(t, err)
	duty, known := n.Receiver("duty")
	require.True(t, known)
	assert.Equal(t, notify.English, duty.Language)
	assert.Equal(t, "alarm.bank.example", duty.Webhook.Host())
	assert.NotEmpty(t, duty.Webhook.Key)
	zhang, known := n.Receiver("zhang")
	require.True(t, known)
	assert.Equal(t, notify.Chinese, zhang.Language)
	assert.Nil(t, zhang.Webhook)
	assert.Equal(t, "smtp.bank.example:587", n.Mailer.Address)
	assert.Equal(t, notify.StartTLS, n.Mailer.Encryption)

	shown, err := c.YAML()
	require.NoError(t, err)
	for _, hidden := range []string{"t0ken", "p4ss", "MfKQ"} {
		assert.NotContains(t, string(shown), hidden)
	}
	assert.NotContains(t, strings.Join(viewTexts(n), " "), "t0ken")
}

func viewTexts(n *notify.Notifier) (texts []string) {
	for _, v := range n.View() {
		texts = append(texts, v.Name, v.Channel, v.Target)
	}
	return texts
}

// TestInvalidNotifications checks that each mistake is named with its field and the remedy, without a secret.
func TestInvalidNotifications(t *testing.T) {
	hook := `webhook: {url: "https://a.example/s3cret", secret: ` + webhookSecret + `}`
	receiver := func(fields string) string { return "  receivers:\n    - {" + fields + "}\n" }
	smtp := "  smtp: {address: \"smtp.bank.example:25\", from: h@bank.example, "
	for name, c := range map[string]struct{ body, want string }{
		"unknown field": {receiver("name: a, webhok: {}"),
			"unknown field notifications.receivers[0].webhok; did you mean webhook?"},
		"name": {receiver(hook + ", events: [approval]"), "notifications.receivers[0].name"},
		"events": {receiver("name: a, " + hook),
			"notifications.receivers[0].events: is required: list some of"},
		"event": {receiver("name: a, events: [failed], " + hook),
			"notifications.receivers[0].events[0]: must be one of"},
		"neither": {receiver("name: a, events: [approval]"), "requires webhook or email, and not both"},
		"both": {receiver("name: a, events: [approval], email: [a@b.example], " + hook),
			"requires webhook or email, and not both"},
		"http": {receiver(`name: a, events: [approval], webhook: {url: "http://a.example/s3cret", secret: ` +
			webhookSecret + `}`), "webhook.url: must be https beyond the loopback interface"},
		"user": {receiver(`name: a, events: [approval], webhook: {url: "https://u:s3cret@a.example", ` +
			`secret: ` + webhookSecret + `}`), "webhook.url: must be https://host/path without a user"},
		"secret": {receiver(
			`name: a, events: [approval], webhook: {url: "https://a.example", secret: s3cret}`),
			"webhook.secret: must be whsec_ and the base64 of 24 to 64 random bytes; make one with"},
		"no secret": {receiver(`name: a, events: [approval], webhook: {url: "https://a.example"}`),
			"webhook.secret: is required, or secret_file"},
		"address": {smtp + "}\n" + receiver("name: a, events: [approval], email: [zhang]"),
			"notifications.receivers[0].email[0]: must be an e-mail address"},
		"no server": {receiver("name: a, events: [approval], email: [a@b.example]"),
			"notifications.smtp.address: is required"},
		"plain": {smtp + "encryption: none}\n",
			"notifications.smtp.encryption: must be starttls or tls beyond"},
		"plain password": {smtp + "encryption: none, insecure: true, user: u, password: s3cret}\n",
			"notifications.smtp.user: requires the encryption starttls or tls"},
		"no password": {smtp + "user: u}\n", "notifications.smtp: requires both user and password"},
		"role": {receiver("name: a, events: [approval], roles: [boss], " + hook),
			"notifications.receivers[0].roles[0]: must be guest, host or arbiter"},
		"language": {receiver("name: a, events: [approval], language: fr, " + hook),
			"notifications.receivers[0].language: must be one of"},
		"twice": {receiver("name: a, events: [approval], "+hook) + "    - {name: a, events: [approval], " +
			hook + "}\n", `notifications.receivers[1].name: is given twice: "a"`},
		"console": {"  console_url: hutong.bank.example\n", "notifications.console_url: must be http"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notifying(t, c.body)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
	_, err := notifying(t, receiver(`name: a, events: [approval], webhook: {url: "http://127.0.0.1:1/x", `+
		`secret: `+webhookSecret+`}`)+
		"  smtp: {address: \"127.0.0.1:25\", encryption: none, from: h@bank.example}\n")
	require.NoError(t, err, "the loopback interface needs no encryption")
}
