package party

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"hutong/internal/identity"
	"hutong/internal/notify"
)

// NotificationsConfig configures who gets messages about jobs and about what needs a person.
type NotificationsConfig struct {
	// ConsoleURL is the address at which people reach the console, for links. Empty: messages have no link.
	ConsoleURL string `yaml:"console_url" env:"CONSOLE_URL"`
	// PartnerSilence is how long a partner must not have answered, while jobs wait for it, before it counts
	// as silent.
	PartnerSilence time.Duration `yaml:"partner_silence" env:"PARTNER_SILENCE"`
	// SMTP is the server that sends e-mail. Required if a receiver has an e-mail address.
	SMTP SMTPConfig `yaml:"smtp" envPrefix:"SMTP_"`
	// Receivers are who gets messages. Only the file can set them. Empty: nobody.
	Receivers []ReceiverConfig `yaml:"receivers"`
}

// SMTPConfig configures the server that sends e-mail.
type SMTPConfig struct {
	// Address is its host:port.
	Address string `yaml:"address" env:"ADDRESS"`
	// Encryption is starttls, tls (from the first byte) or none.
	Encryption notify.Encryption `yaml:"encryption" env:"ENCRYPTION"`
	// Insecure allows the encryption none beyond the loopback interface.
	Insecure bool `yaml:"insecure" env:"INSECURE"`
	// CAFile contains the certificate authorities to trust instead of the system's, in PEM.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
	// User and Password authenticate. Empty: without.
	User     string `yaml:"user" env:"USER"`
	Password Secret `yaml:"password" env:"PASSWORD"`
	// PasswordFile is a file with the password, instead of Password.
	PasswordFile string `yaml:"password_file" env:"PASSWORD_FILE"`
	// From is the sender's address.
	From string `yaml:"from" env:"FROM"`
}

// ReceiverConfig is a person or a service that gets messages: by a webhook or by e-mail.
type ReceiverConfig struct {
	// Name names the receiver in lists. Required, and unique.
	Name string `yaml:"name"`
	// Webhook is an endpoint for signed requests.
	Webhook WebhookConfig `yaml:"webhook"`
	// Email holds addresses. Set it or Webhook.
	Email []string `yaml:"email"`
	// Events are the kinds of events: approval, job_failed, job_ended (also failed ones), grant_request,
	// runner_silent, partner_silent, partner_back. Required.
	Events []notify.Kind `yaml:"events"`
	// Flows, Initiators, Roles, Clients and Projects restrict the jobs: to those of these flows, submitted by
	// these parties, in which this party has one of these roles, which one of these clients of this party has
	// submitted, or of these projects. Empty: all jobs.
	Flows      []string `yaml:"flows"`
	Initiators []string `yaml:"initiators"`
	Roles      []string `yaml:"roles"`
	Clients    []string `yaml:"clients"`
	Projects   []string `yaml:"projects"`
	// Language of the messages is en or zh. Empty: en.
	Language notify.Language `yaml:"language"`
}

// WebhookConfig configures an endpoint for signed requests.
type WebhookConfig struct {
	// URL is https, or http on the loopback interface. It is kept secret, as those of chat services must be.
	URL Secret `yaml:"url"`
	// URLFile is a file with the URL, instead of URL.
	URLFile string `yaml:"url_file"`
	// Secret signs the requests: whsec_ and the base64 of 24 to 64 random bytes.
	Secret Secret `yaml:"secret"`
	// SecretFile is a file with the secret, instead of Secret.
	SecretFile string `yaml:"secret_file"`
	// CAFile contains the certificate authorities to trust instead of the system's, in PEM.
	CAFile string `yaml:"ca_file"`
}

// set reports whether the receiver has a webhook.
func (c WebhookConfig) set() bool { return c != WebhookConfig{} }

// receiverField returns the name of a receiver's field in the file.
func receiverField(i int) string { return fmt.Sprintf("notifications.receivers[%d]", i) }

// complete sets the fields that have a default.
func (c *NotificationsConfig) complete() {
	for i := range c.Receivers {
		if c.Receivers[i].Language == "" {
			c.Receivers[i].Language = notify.English
		}
	}
}

// Notifier returns what sends the messages of a valid configuration. It reads the files with authorities.
func (c *Config) Notifier() (*notify.Notifier, error) {
	n := &notify.Notifier{NodeID: c.NodeID, ConsoleURL: c.Notifications.ConsoleURL}
	proxy := c.Proxy.Rule()
	for i, r := range c.Notifications.Receivers {
		receiver := notify.Receiver{Name: r.Name, Language: r.Language, Events: r.Events, Flows: r.Flows,
			Initiators: r.Initiators, Roles: r.Roles, Clients: r.Clients, Projects: r.Projects,
			Email: r.Email}
		if r.Webhook.set() {
			key, err := notify.ParseSecret(r.Webhook.Secret.Reveal())
			if err != nil {
				return nil, fmt.Errorf("%s.webhook.secret: %w", receiverField(i), err)
			}
			roots, err := readAuthorities(receiverField(i)+".webhook.ca_file", r.Webhook.CAFile)
			if err != nil {
				return nil, err
			}
			transport := proxy.Transport()
			transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
			receiver.Webhook = &notify.Webhook{URL: r.Webhook.URL.Reveal(), Key: key,
				Client: notify.NewClient(transport)}
		}
		n.Receivers = append(n.Receivers, receiver)
	}
	if s := c.Notifications.SMTP; s.Address != "" {
		roots, err := readAuthorities("notifications.smtp.ca_file", s.CAFile)
		if err != nil {
			return nil, err
		}
		n.Mailer = &notify.Mailer{Address: s.Address, Encryption: s.Encryption, User: s.User,
			Password: s.Password.Reveal(), From: s.From,
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, Dial: proxy.Dial}
	}
	return n, nil
}

// notifications checks who gets messages.
func (v *validation) notifications(c *Config) {
	n := c.Notifications
	if n.ConsoleURL != "" {
		v.httpURL("notifications.console_url", n.ConsoleURL)
	}
	v.duration("notifications.partner_silence", n.PartnerSilence)
	v.smtp(n.SMTP)
	names := map[string]bool{}
	for i, r := range n.Receivers {
		v.receiver(c, receiverField(i), r)
		if names[r.Name] {
			v.wrong(receiverField(i)+".name", "is given twice: %q", r.Name)
		}
		names[r.Name] = true
	}
}

func (v *validation) smtp(s SMTPConfig) {
	const field = "notifications.smtp"
	oneOf(v, field+".encryption", s.Encryption, notify.StartTLS, notify.TLS, notify.Plain)
	if s.Address == "" {
		return
	}
	v.reachable(field+".address", s.Address)
	if s.Encryption == notify.Plain && !isLoopback(s.Address) && !s.Insecure {
		v.wrong(field+".encryption", "must be starttls or tls beyond the loopback interface, or else set "+
			"%s.insecure to true: everybody on the way could read and change the messages", field)
	}
	if s.Encryption == notify.Plain && s.User != "" {
		v.wrong(field+".user", "requires the encryption starttls or tls, which protect the password")
	}
	if (s.User == "") != (s.Password == "") {
		v.wrong(field, "requires both user and password (or password_file), or neither")
	}
	v.mailAddress(field+".from", s.From)
}

func (v *validation) mailAddress(field, address string) {
	if _, err := mail.ParseAddress(address); err != nil {
		v.wrong(field, "must be an e-mail address, such as hutong@bank.example, but is %q", address)
	}
}

func (v *validation) receiver(c *Config, field string, r ReceiverConfig) {
	v.id(field+".name", r.Name)
	switch {
	case r.Webhook.set() == (len(r.Email) > 0):
		v.wrong(field, "requires webhook or email, and not both")
	case r.Webhook.set():
		v.webhook(c, field+".webhook", r.Webhook)
	default:
		for i, address := range r.Email {
			v.mailAddress(fmt.Sprintf("%s.email[%d]", field, i), address)
		}
		if c.Notifications.SMTP.Address == "" {
			v.wrong("notifications.smtp.address", "is required, because %s has an e-mail address", field)
		}
	}
	if len(r.Events) == 0 {
		v.wrong(field+".events", "is required: list some of %v", notify.Kinds())
	}
	for i, k := range r.Events {
		oneOf(v, fmt.Sprintf("%s.events[%d]", field, i), k, notify.Kinds()...)
	}
	for i, node := range r.Initiators {
		v.id(fmt.Sprintf("%s.initiators[%d]", field, i), node)
	}
	for i, role := range r.Roles {
		plain, _, _ := strings.Cut(role, ".")
		if !slices.Contains([]string{"guest", "host", "arbiter"}, plain) {
			v.wrong(fmt.Sprintf("%s.roles[%d]", field, i),
				"must be guest, host or arbiter, or one of them with its number, such as host.0, but is %q",
				role)
		}
	}
	for i, project := range r.Projects {
		if err := identity.CheckProjectName(project); err != nil {
			v.wrong(fmt.Sprintf("%s.projects[%d]", field, i), "%v", err)
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"flows", r.Flows}, {"clients", r.Clients}} {
		for i, value := range list.values {
			v.required(fmt.Sprintf("%s.%s[%d]", field, list.name, i), value)
		}
	}
	oneOf(v, field+".language", r.Language, notify.English, notify.Chinese)
}

// webhook checks a webhook. Errors contain neither its URL nor its secret.
func (v *validation) webhook(c *Config, field string, w WebhookConfig) {
	u, err := url.Parse(w.URL.Reveal())
	switch {
	case w.URL == "":
		v.wrong(field+".url", "is required, or url_file")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		u.Fragment != "":
		v.wrong(field+".url",
			"must be https://host/path without a user (not shown, because it may be secret)")
	case u.Scheme == "http" && c.Security.Mode != SecurityOpen && !isLoopbackHost(u.Hostname()):
		v.wrong(field+".url", "must be https beyond the loopback interface: everybody on the way could read "+
			"the messages")
	}
	if w.Secret == "" {
		v.wrong(field+".secret", "is required, or secret_file")
	} else if _, err := notify.ParseSecret(w.Secret.Reveal()); err != nil {
		v.wrong(field+".secret", "%v", err)
	}
}

func isLoopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
