package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/emmansun/gmsm/sm4"

	"hutong/internal/secretfile"
)

// Algorithm is a cipher with authentication.
type Algorithm string

// The algorithms. Both bind the key's id to the ciphertext.
const (
	AES256GCM Algorithm = "aes-256-gcm"
	SM4GCM    Algorithm = "sm4-gcm" // GB/T 32907 in Galois/counter mode
)

// Algorithms returns all algorithms.
func Algorithms() []Algorithm { return []Algorithm{AES256GCM, SM4GCM} }

// keyBytes returns the length of an algorithm's keys, or 0 for an unknown algorithm.
func (a Algorithm) keyBytes() int {
	switch a {
	case AES256GCM:
		return 32
	case SM4GCM:
		return sm4.BlockSize
	}
	return 0
}

const (
	// KeySuffix ends the name of a key's file in a folder of keys; the name before it is the key's id.
	KeySuffix = ".key"
	// CurrentFile is the file of a folder of keys that holds the id of the key to encrypt with.
	CurrentFile = "current"
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckKeyID returns an error if id is not a key's id. It is stored unencrypted with each payload.
func CheckKeyID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%.100q is not the id of a key: at most 64 letters, digits, dots, dashes and underscores",
			id)
	}
	return nil
}

// key is a key that is ready for use.
type key struct {
	id        string
	algorithm Algorithm
	aead      cipher.AEAD
}

// readKey reads a key's file: the algorithm, a colon, and the key in base64.
func readKey(id, path string) (*key, error) {
	if err := CheckKeyID(id); err != nil {
		return nil, err
	}
	text, err := secretfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	name, encoded, _ := strings.Cut(string(text), ":")
	algorithm := Algorithm(name)
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || algorithm.keyBytes() == 0 || len(secret) != algorithm.keyBytes() {
		return nil, fmt.Errorf("key %s: %s is not a key; make one with hutong key create", id, path)
	}
	aead, err := algorithm.open(secret)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	return &key{id: id, algorithm: algorithm, aead: aead}, nil
}

func (a Algorithm) open(secret []byte) (cipher.AEAD, error) {
	newBlock := aes.NewCipher
	if a == SM4GCM {
		newBlock = sm4.NewCipher
	}
	block, err := newBlock(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// CreateKey writes a new random key to the folder dir, which it creates if necessary. Only the owner may read
// the file. It fails if the folder has a key with that id.
func CreateKey(dir, id string, algorithm Algorithm) (path string, err error) {
	if err := CheckKeyID(id); err != nil {
		return "", err
	}
	if algorithm.keyBytes() == 0 {
		return "", fmt.Errorf("%q is not an algorithm; known are %v", algorithm, Algorithms())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("failed to create the folder of keys: %w", err)
	}
	secret := make([]byte, algorithm.keyBytes())
	_, _ = rand.Read(secret) // it never fails
	path = filepath.Join(dir, id+KeySuffix)
	line := string(algorithm) + ":" + base64.StdEncoding.EncodeToString(secret) + "\n"
	err = writeNew(path, line)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s has a key %s already; a key that has encrypted must never be replaced", dir, id)
	}
	if err != nil {
		return "", fmt.Errorf("failed to write the key: %w", err)
	}
	return path, nil
}

// UseKey makes a key of the folder dir the one to encrypt with. Processes that use the folder notice it.
func UseKey(dir, id string) error {
	if _, err := readKey(id, filepath.Join(dir, id+KeySuffix)); err != nil {
		return err
	}
	temporary := filepath.Join(dir, ".current-"+rand.Text())
	if err := writeNew(temporary, id+"\n"); err != nil {
		return fmt.Errorf("failed to choose the key: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, CurrentFile)); err != nil {
		return errors.Join(fmt.Errorf("failed to choose the key: %w", err), os.Remove(temporary))
	}
	return nil
}

// writeNew writes a file to disk, which must not exist.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
