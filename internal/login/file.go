package login

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Credentials are what a user has for one party: a bearer token of the party, or tokens of its OpenID
// provider.
type Credentials struct {
	Token string `json:"token,omitempty"`
	OIDC  *OIDC  `json:"oidc,omitempty"`
	// Authorities are the certificates, as PEM, that the party's TLS was checked with at login, besides those
	// of the system.
	Authorities string `json:"authorities,omitempty"`
}

// OIDC are the tokens of an OpenID provider.
type OIDC struct {
	Issuer       string    `json:"issuer"`
	ClientID     string    `json:"client_id"`
	IDToken      string    `json:"id_token"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	ExpiresAt    time.Time `json:"expires_at"`
}

// File is the file with a user's credentials. Other users can't read it.
type File struct{ path string }

// NewFile returns the file in a folder of configurations, such as ~/.config. It need not exist.
func NewFile(configDir string) File {
	return File{filepath.Join(configDir, "hutong", "credentials.json")}
}

// Path returns the path of the file.
func (f File) Path() string { return f.path }

type contents struct {
	Servers map[string]Credentials `json:"servers"`
}

// Get returns the credentials for a party, by its URL.
func (f File) Get(url string) (c Credentials, found bool, err error) {
	all, err := f.read()
	if err != nil {
		return c, false, err
	}
	c, found = all.Servers[url]
	return c, found, nil
}

// Update changes the credentials for a party while no other process changes the file. change gets the current
// ones, or nil, and returns the new ones, or nil to delete them.
func (f File) Update(url string, change func(*Credentials) (*Credentials, error)) error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("failed to create the folder of the credentials: %w", err)
	}
	lock, err := os.OpenFile(f.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("failed to lock the credentials: %w", err)
	}
	defer func() { _ = lock.Close() }() // which unlocks it
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("failed to lock %s: %w", lock.Name(), err)
	}

	all, err := f.read()
	if err != nil {
		return err
	}
	var current *Credentials
	if c, found := all.Servers[url]; found {
		current = &c
	}
	changed, err := change(current)
	if err != nil {
		return err
	}
	delete(all.Servers, url)
	if changed != nil {
		all.Servers[url] = *changed
	}
	return f.write(all)
}

func (f File) read() (contents, error) {
	all := contents{Servers: map[string]Credentials{}}
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("failed to read the credentials: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return all, fmt.Errorf("failed to read the credentials: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return all, fmt.Errorf("%s has mode %04o: other users may have read it; run 'chmod 600' on it, "+
			"and revoke the tokens in it if you share this machine", f.path, mode)
	}
	if err := json.NewDecoder(file).Decode(&all); err != nil {
		return all, fmt.Errorf("%s is not valid (%w): delete it, and run 'hutong login' again", f.path, err)
	}
	if all.Servers == nil {
		all.Servers = map[string]Credentials{}
	}
	return all, nil
}

// write replaces the file in one step, so that no process reads half of it.
func (f File) write(all contents) error {
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("failed to encode the credentials: %w", err)
	}
	next, err := os.CreateTemp(filepath.Dir(f.path), ".credentials-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("failed to write the credentials: %w", err)
	}
	_, err = next.Write(append(text, '\n'))
	err = errors.Join(err, next.Close())
	if err == nil {
		err = os.Rename(next.Name(), f.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("failed to write the credentials: %w", err), os.Remove(next.Name()))
	}
	return nil
}
