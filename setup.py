"Packaging reads `settings.ini`, the one place for name, version and requirements"
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages
from setuptools.command.build_py import build_py

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

def reqs(key): return cfg.get(key, '').split()
extras = {k.removesuffix('_requirements'): reqs(k) for k in cfg if k.endswith('_requirements')}

class WithTutorials(build_py):
    "The tutorials live in nbs/tutorials and travel in the wheel as robustfm/tutorials; an editable install reads them where they live"
    def tutorials(self):
        if self.editable_mode: return {}
        src,dst = Path('nbs/tutorials'),Path(self.build_lib)/cfg['lib_path']/'tutorials'
        return {str(dst/f.relative_to(src)): str(f) for f in sorted(src.rglob('*'))
                if f.is_file() and not any(p.startswith(('.','_')) for p in f.relative_to(src).parts)}

    def run(self):
        super().run()
        for dst,src in self.tutorials().items():
            self.mkpath(str(Path(dst).parent))
            self.copy_file(src, dst, preserve_mode=False)

    def get_outputs(self, include_bytecode=1): return [*super().get_outputs(include_bytecode), *self.tutorials()]
    def get_output_mapping(self): return {**super().get_output_mapping(), **self.tutorials()}
    def get_source_files(self): return [*super().get_source_files(), *self.tutorials().values()]

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license_expression='Apache-2.0',
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    # by its path, not by an import finder: beside the checkout, the folder `robustfm` would hide the package from one
    options=dict(editable_wheel=dict(mode='compat')),
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path']+'.*']), include_package_data=True, zip_safe=False,
    python_requires='>='+cfg['min_python'], install_requires=reqs('requirements'), extras_require=extras, cmdclass=dict(build_py=WithTutorials),
    entry_points=dict(console_scripts=[cfg['console_scripts']], nbdev=[f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]),
    classifiers=['Programming Language :: Python :: 3', f"Natural Language :: {cfg['language']}", 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
)
