package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SecretPrefix is the beginning of a webhook's secret, as Standard Webhooks writes it.
const SecretPrefix = "whsec_"

// The least and the largest key of a webhook, in bytes.
const minKey, maxKey = 24, 64

// Key is the key of a webhook's signatures.
type Key []byte

// ParseSecret returns the key that a secret holds: whsec_ and base64 of 24 to 64 bytes. Errors do not contain
// the secret.
func ParseSecret(secret string) (Key, error) {
	text, found := strings.CutPrefix(secret, SecretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !found || err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, fmt.Errorf("must be %s and the base64 of %d to %d random bytes; make one with: "+
			"echo %s$(openssl rand -base64 32)", SecretPrefix, minKey, maxKey, SecretPrefix)
	}
	return key, nil
}

// Sign returns the signature of a request: v1, and HMAC-SHA256 over id.timestamp.body in base64.
func (k Key) Sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, k)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, strconv.FormatInt(at.Unix(), 10))
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
