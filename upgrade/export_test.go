package upgrade

// BuildDir makes the folder for binaries, which TestMain removes.
func BuildDir(mk func() (string, error)) (string, error) {
	var err error
	if buildDir == "" {
		buildDir, err = mk()
	}
	return buildDir, err
}
