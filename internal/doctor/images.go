package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
)

// checkImages lists which online runner with Docker lacks which image of a registered provider. Tasks go to
// the runners that have their image.
func checkImages(ctx context.Context, cfg *party.Config) Check {
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return *refused
	}
	defer func() { _ = db.Close() }()

	runners, err := db.Runners(ctx, activities.RunnerSilentAfter)
	if err != nil {
		return failed(fixDatabase, "failed to read the table of runners: %v", err)
	}
	runners = slices.DeleteFunc(runners, func(r store.Runner) bool {
		return !slices.Contains(r.Devices, string(bfia.DeviceDocker))
	})
	providers, err := db.Providers(ctx, store.ProviderFilter{Device: string(bfia.DeviceDocker)})
	if err != nil {
		return failed(fixDatabase, "failed to read the providers: %v", err)
	}

	images := map[string]activities.Image{}
	for _, p := range providers {
		for component := range p.Components {
			image, err := activities.ImageOf(p, component)
			if err != nil {
				return failed("register the provider again", "%v", err)
			}
			images[image.Reference+" "+strings.Join(image.Alternatives(), " ")] = image
		}
	}
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(images)) {
		image := images[key]
		for _, r := range runners {
			has := func(alternative string) bool { return r.Images[alternative] != "" }
			if image.Reference != "" && !slices.ContainsFunc(image.Alternatives(), has) {
				missing = append(missing, fmt.Sprintf("runner %s (machine %s) lacks the image %s", r.RunnerID,
					r.Machine, image.Reference))
			}
		}
	}
	if len(missing) > 0 {
		return warning("pull or load the images there (docker pull IMAGE), or register the provider again if "+
			"another image has the name now; a runner reports its images within 15 s",
			"%s", strings.Join(missing, "; "))
	}

	return ok("%d runner(s) with Docker have all %d image(s) of registered providers", len(runners),
		len(images))
}
