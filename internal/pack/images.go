package pack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// BuiltImage is an image that was written.
type BuiltImage struct {
	Tag, Arch, Digest string
	// File is the path of its tar file. The bill of materials of its program is next to it.
	File string
}

// SBOMFile returns the path of the bill of materials.
func (b BuiltImage) SBOMFile() string { return b.File[:len(b.File)-len(".tar")] + ".cdx.json" }

// Images builds the programs and writes their images and bills of materials into a folder, for each
// architecture. The programs are kept in its subfolder programs.
func (r Release) Images(ctx context.Context, dir string, arches []string) ([]BuiltImage, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var built []BuiltImage
	for _, arch := range arches {
		for _, kind := range []struct {
			program Program
			image   func(arch string, program []byte) Image
		}{{r.Hutong(), r.HutongImage}, {r.Provider(), r.ProviderImage}} {
			b, err := r.image(ctx, dir, kind.program, arch, kind.image)
			if err != nil {
				return nil, err
			}
			built = append(built, b)
		}
	}
	return built, nil
}

func (r Release) image(ctx context.Context, dir string, p Program, arch string,
	describe func(string, []byte) Image) (BuiltImage, error) {
	file := programFile(dir, p, arch)
	if err := r.Build(ctx, p, arch, file); err != nil {
		return BuiltImage{}, err
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return BuiltImage{}, fmt.Errorf("failed to read %s: %w", p.Name, err)
	}
	image := describe(arch, program)
	built := BuiltImage{Tag: image.Tag, Arch: arch,
		File: filepath.Join(dir, fmt.Sprintf("%s-linux-%s.tar", p.Name, arch))}
	out, err := os.Create(built.File)
	if err != nil {
		return BuiltImage{}, fmt.Errorf("failed to write image %s: %w", image.Tag, err)
	}
	built.Digest, err = image.Write(out)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return BuiltImage{}, err
	}
	document, err := r.SBOM(p, file, program)
	if err != nil {
		return BuiltImage{}, err
	}
	return built, os.WriteFile(built.SBOMFile(), document, 0o644)
}

func programFile(dir string, p Program, arch string) string {
	return filepath.Join(dir, "programs", arch, p.Name)
}
