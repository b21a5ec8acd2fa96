// Package imageref decides which references of container images a party allows.
package imageref

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// imageID matches the id of an image, which names its content and no registry.
var imageID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)

// CheckRegistry returns an error if a text is not a registry, or a path of repositories below one.
func CheckRegistry(registry string) error {
	domain, _, _ := strings.Cut(registry, "/")
	const repository = "/library/x" // below docker.io, library would be added to a single name
	named, err := reference.ParseNormalizedNamed(registry + repository)
	if err != nil || reference.Domain(named) != domain || named.Name() != registry+repository {
		return fmt.Errorf("must be a registry such as registry.bank.example, or a path below it such as "+
			"registry.bank.example/team, but is %q", registry)
	}
	return nil
}

// CheckAllowed returns an error unless an image is of one of the registries. Without registries it allows
// all. digest also demands that the reference names the content by its digest. The id of an image is always
// allowed: it names its content, which only an operator can have put on a runner.
func CheckAllowed(registries []string, image string, digest bool) error {
	if len(registries) == 0 || imageID.MatchString(image) {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("%q is not a reference of an image: %w", image, err)
	}
	allowed := false
	for _, registry := range registries {
		allowed = allowed || strings.HasPrefix(named.Name(), registry+"/")
	}
	if !allowed {
		return fmt.Errorf("%q is of the registry %s, which this party does not allow (images.registries: %s)",
			image, reference.Domain(named), strings.Join(registries, ", "))
	}
	if _, pinned := named.(reference.Digested); digest && !pinned {
		return fmt.Errorf("%q can change: name the image by its digest, as %s@sha256:DIGEST", image,
			named.Name())
	}
	return nil
}
