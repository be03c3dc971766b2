from setuptools import find_packages, setup

setup(
    name='ppcd_mmagic',
    version='0.1.0',
    description='PPCD-GAN for MMagic: compress class-conditional GANs by '
    'progressive pruning and class-aware distillation',
    packages=find_packages(include=['ppcd_mmagic', 'ppcd_mmagic.*']),
    python_requires='>=3.9',
    # MMCV or mmcv-lite is needed too; which of them is for the user to say
    install_requires=[
        'torch>=2.0',
        'torchvision>=0.15',
        'mmengine>=0.10',
        'mmagic>=1.1,<2',
        'nni>=3.0',
        'numpy<2',
        'scipy',
        'scikit-learn',
        'matplotlib',
        'opencv-python-headless',
        'tqdm',
    ],
    extras_require=dict(
        tests=['pytest', 'pytest-timeout', 'hypothesis'],
        export=['onnx', 'onnxscript', 'onnxruntime', 'safetensors'],
        benchmarks=['torch-pruning']))
