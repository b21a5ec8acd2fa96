package codec

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Source says where the keys of a [Ring] are. Either Files or Dir is set.
type Source struct {
	// Files holds the files of the keys by their ids.
	Files map[string]string
	// Dir is a folder of files ID.key. Files that are added later are noticed.
	Dir string
	// Use is the id of the key to encrypt with. Empty: the one that the file current in Dir names, which may
	// change while the ring is in use.
	Use string
	// Algorithm is the algorithm that the key to encrypt with must have. Empty: any. Payloads of other
	// algorithms are decrypted.
	Algorithm Algorithm
}

const (
	// reloadEvery is how often a ring that encrypts reads its source again, at most.
	reloadEvery = time.Second
	// reloadUnknownEvery is how often it does for a key that it does not know, at most.
	reloadUnknownEvery = 100 * time.Millisecond
)

// Ring holds keys, and notices changes of their source. Its methods may be called concurrently.
type Ring struct {
	source Source
	logger *slog.Logger

	mu      sync.Mutex
	loaded  time.Time // the last attempt
	keys    map[string]*key
	current *key
	failed  string // the message of the last attempt, if it failed
}

// OpenRing reads the keys of a source. It fails if any can't be read. Later changes that can't be read are
// logged, and the ring keeps the keys that it has.
func OpenRing(source Source, logger *slog.Logger) (*Ring, error) {
	r := &Ring{source: source, logger: logger, loaded: time.Now()}
	var err error
	r.keys, r.current, err = source.load()
	if err != nil {
		return nil, err
	}
	return r, nil
}

// load reads all keys.
func (s Source) load() (map[string]*key, *key, error) {
	files := s.Files
	use := s.Use
	if s.Dir != "" {
		found, err := filepath.Glob(filepath.Join(escapeGlob(s.Dir), "*"+KeySuffix))
		if err != nil {
			return nil, nil, fmt.Errorf("failed to list the folder of keys: %w", err)
		}
		files = map[string]string{}
		for _, path := range found {
			files[strings.TrimSuffix(filepath.Base(path), KeySuffix)] = path
		}
	}
	if use == "" {
		text, err := os.ReadFile(filepath.Join(s.Dir, CurrentFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("no key is chosen in %s: run hutong key create --use %s", s.Dir,
				s.Dir)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("failed to read which key to use: %w", err)
		}
		use = strings.TrimSpace(string(text))
	}

	keys := make(map[string]*key, len(files))
	for id, path := range files {
		k, err := readKey(id, path)
		if err != nil {
			return nil, nil, err
		}
		keys[id] = k
	}
	current := keys[use]
	if current == nil {
		return nil, nil, fmt.Errorf("key %q is to be used, but is not among the keys (%s)", use,
			listOf(keys))
	}
	if s.Algorithm != "" && current.algorithm != s.Algorithm {
		return nil, nil, fmt.Errorf("key %s is for %s, but the algorithm must be %s; make one with hutong key "+
			"create --algorithm %s", use, current.algorithm, s.Algorithm, s.Algorithm)
	}
	return keys, current, nil
}

// escapeGlob returns a pattern that matches path only.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func listOf(keys map[string]*key) string {
	if len(keys) == 0 {
		return "there are none"
	}
	return strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
}

// reload reads the source again unless that was done a moment ago. The caller holds the lock.
func (r *Ring) reload(atMostEvery time.Duration) {
	if time.Since(r.loaded) < atMostEvery {
		return
	}
	r.loaded = time.Now()
	keys, current, err := r.source.load()
	if err != nil {
		if r.failed != err.Error() {
			r.failed = err.Error()
			r.logger.Error("failed to read the keys of temporal.encryption again; the former ones stay in use",
				"error", err)
		}
		return
	}
	r.failed = ""
	if current.id != r.current.id {
		r.logger.Warn("another key encrypts what goes to Temporal from now on", "key_id", current.id,
			"former", r.current.id)
	}
	// A key that has been removed from the source is no longer used.
	r.keys, r.current = keys, current
}

// toEncrypt returns the key to encrypt with.
func (r *Ring) toEncrypt() *key {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reload(reloadEvery)
	return r.current
}

// UnknownKeyError says that a payload was encrypted with a key that the ring does not have.
type UnknownKeyError struct {
	ID    string
	Known string // the ids that the ring has
}

// Error names the key and the remedy.
func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("a payload in Temporal is encrypted with key %.100q, which is not among the keys of "+
		"temporal.encryption (%s); add its file on this machine", e.ID, e.Known)
}

// byID returns the key of a payload. The error is an [UnknownKeyError].
func (r *Ring) byID(id string) (*key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys[id] == nil {
		r.reload(reloadUnknownEvery)
	}
	if k := r.keys[id]; k != nil {
		return k, nil
	}
	return nil, &UnknownKeyError{ID: id, Known: listOf(r.keys)}
}
