package party

import (
	"errors"
	"fmt"

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
	return []secretFile{
		{"database.url", &c.Database.URL, c.Database.URLFile},
		{"storage.url", &c.Storage.URL, c.Storage.URLFile},
		{"temporal.api_key", &c.Temporal.APIKey, c.Temporal.APIKeyFile},
		{"proxy.url", &c.Proxy.URL, c.Proxy.URLFile},
	}
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
