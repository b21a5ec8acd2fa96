package party

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"hutong/internal/notify"
	"hutong/internal/secretfile"
)

// secretFile is a secret that is set in the configuration or by a file.
type secretFile struct {
	field string // of the secret; that of the file ends in _file
	value *Secret
	path  string
}

// secretFiles returns all secrets of the configuration.
func (c *Config) secretFiles() []secretFile {
	secrets := []secretFile{
		{"database.url", &c.Database.URL, c.Database.URLFile},
		{"storage.url", &c.Storage.URL, c.Storage.URLFile},
		{"temporal.api_key", &c.Temporal.APIKey, c.Temporal.APIKeyFile},
		{"proxy.url", &c.Proxy.URL, c.Proxy.URLFile},
		{"notifications.smtp.password", &c.Notifications.SMTP.Password, c.Notifications.SMTP.PasswordFile},
	}
	for i := range c.Notifications.Receivers {
		hook, field := &c.Notifications.Receivers[i].Webhook, receiverField(i)+".webhook"
		secrets = append(secrets, secretFile{field + ".url", &hook.URL, hook.URLFile},
			secretFile{field + ".secret", &hook.Secret, hook.SecretFile})
	}
	return secrets
}

// readSecretFiles reads the secrets that are given by a file. Their errors name the fields and the files, and
// hold no secret.
func (c *Config) readSecretFiles() error {
	var failed []error
	for _, s := range c.secretFiles() {
		if s.path == "" {
			continue
		}
		if *s.value != "" {
			failed = append(failed, fmt.Errorf("%s and %s_file: set only one of them", s.field, s.field))
			continue
		}
		content, err := secretfile.Read(s.path)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s_file: %w", s.field, err))
			continue
		}
		*s.value = Secret(content)
	}
	return errors.Join(failed...)
}

// SecretValues returns the secrets of the configuration and the passwords in its URLs, for those who must
// remove them from something.
func (c *Config) SecretValues() (values []string) {
	for _, s := range c.secretFiles() {
		value := s.value.Reveal()
		u, err := url.Parse(value)
		if err != nil || u.Scheme == "" {
			values = append(values, value)
			continue
		}
		password, _ := u.User.Password()
		values = append(values, password)
		for name, all := range u.Query() {
			if strings.Contains(strings.ToLower(name), "pass") || strings.Contains(strings.ToLower(name),
				"secret") {
				values = append(values, all...)
			}
		}
	}
	for i := range c.Notifications.Receivers {
		if hook := c.Notifications.Receivers[i].Webhook.URL.Reveal(); hook != "" {
			values = append(values, notify.Secrets(hook)...)
		}
	}
	for _, password := range slices.Clone(values) {
		values = append(values, url.QueryEscape(password), url.PathEscape(password))
	}
	slices.Sort(values)
	return slices.DeleteFunc(slices.Compact(values), func(value string) bool { return value == "" })
}
